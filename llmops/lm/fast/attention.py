"""Attention of a whole pack by groups (`spans.py`), with matrix products only: no row sees another.

Axes: T places of the pack, S blocks of a group, H query heads, G key heads, Q queries, K keys, E numbers of a head. The
query heads that read one key head stand below each other in one product, so that keys are never repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llmops.lm.fast.plain import Plain, Turn
from llmops.lm.fast.spans import Group


@dataclass(frozen=True)
class Heads:
    """How the columns of the stacked q, k and v products are heads."""

    queries: int
    keys: int
    size: int
    scale: float

    def parts(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Views of q (T H E), k and v (T G E)."""
        heads = qkv.view(len(qkv), self.queries + 2 * self.keys, self.size)
        return heads[:, : self.queries], heads[:, self.queries : -self.keys], heads[:, -self.keys :]


@dataclass
class Seen:
    """What the backward pass of one group needs: q, k, v and the shares that each query gave its keys."""

    q: Tensor
    k: Tensor
    v: Tensor
    shares: Tensor


@dataclass(frozen=True)
class Attention:
    """How the tokens of a pack look at each other in one layer. `window` is how far back; 0: all the way."""

    passes: Plain
    heads: Heads
    groups: Sequence[Group]
    turn: Turn
    window: int

    def forward(self, qkv: Tensor, out: Tensor) -> list[Seen]:
        """Fill `out` (T, H E) with the mixed values; returns what `backward` needs."""
        passes, heads = self.passes, self.heads
        q_THE, k_TGE, v_TGE = heads.parts(qkv)
        kept = []
        for group in self.groups:
            q = passes.spread(q_THE, group.queries_SQ, group.query_counts, self.turn, heads.scale)
            k = passes.spread(k_TGE, group.keys_SK, group.key_counts, self.turn)
            v = passes.spread(v_TGE, group.keys_SK, group.key_counts, None)
            scores = torch.bmm(_below(q, heads), _flat(k).transpose(1, 2)).view(*q.shape[:3], k.shape[2])
            passes.softmax(scores, group.key_counts, self.window)
            mixed = torch.bmm(_below(scores, heads), _flat(v)).view(q.shape)
            passes.collect(mixed, group.queries_SQ, group.query_counts, None, 1.0, out.view(q_THE.shape))
            kept.append(Seen(q, k, v, scores))
        return kept

    def backward(self, kept: list[Seen], dout: Tensor, dqkv: Tensor) -> None:
        """Fill `dqkv`, the gradient of the stacked q, k and v (T, (H + 2 G) E), from that of the mixed values.

        Empties `kept`.
        """
        passes, heads, tokens = self.passes, self.heads, len(dout)
        dout_THE = dout.view(tokens, heads.queries, heads.size)
        dq_THE, dk_TGE, dv_TGE = heads.parts(dqkv)
        total_k, total_v = torch.zeros(2, tokens, heads.keys, heads.size, dtype=torch.float32)
        for group, seen in zip(self.groups, kept, strict=True):
            dmixed = _below(passes.spread(dout_THE, group.queries_SQ, group.query_counts, None), heads)
            dv = torch.bmm(_below(seen.shares, heads).transpose(1, 2), dmixed)
            dshares = torch.bmm(dmixed, _flat(seen.v).transpose(1, 2)).view(seen.shares.shape)
            passes.softmax_backward(seen.shares, dshares, group.key_counts, self.window)
            dscores = _below(dshares, heads)
            dq = torch.bmm(dscores, _flat(seen.k)).view(seen.q.shape)
            dk = torch.bmm(dscores.transpose(1, 2), _below(seen.q, heads))
            passes.collect(dq, group.queries_SQ, group.query_counts, self.turn, heads.scale, dq_THE)
            passes.accumulate(dk.view(seen.k.shape), group.keys_SK, group.key_counts, total_k)
            passes.accumulate(dv.view(seen.v.shape), group.keys_SK, group.key_counts, total_v)
        kept.clear()
        passes.settle(total_k, self.turn, dk_TGE)
        passes.settle(total_v, None, dv_TGE)


def _below(x: Tensor, heads: Heads) -> Tensor:
    """S H Q ? as (S G) (H/G Q) ?: the queries of the heads that share a key head below each other."""
    return x.view(x.shape[0] * heads.keys, -1, x.shape[-1])


def _flat(x: Tensor) -> Tensor:
    return x.view(-1, *x.shape[2:])
