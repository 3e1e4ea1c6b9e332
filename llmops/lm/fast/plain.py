"""`Plain`: the work between matrix products in torch, for where no C compiler is, and as the reference of `kernels.c`.

Shapes: x TD, or THS for heads; gate and up beside each other, T 2I; scores BHQK for B blocks of a group (`spans.py`).
Everything is computed in float32 and rounded once. Results go where the caller says, so that a buffer can have room
for more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llmops.lm.fast.adapt import Adapters, Products, Sizes
from llmops.lm.fast.products import Together, WordProducts

LOWEST = torch.finfo(torch.float32).min


@dataclass(frozen=True)
class Turn:
    """The rotation of each place of a pack: cosine and sine, T x half a head, float32."""

    cos: Tensor
    sin: Tensor

    def by(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """`x` (float32, its last axis a head) rotated; halves are pairs, as in Llama and Gemma."""
        first, second = x.chunk(2, -1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


class Plain:
    """In torch, a few passes over memory each."""

    name = "plain"
    once: Any = None  # the library that does attention in C where no backward pass comes (`attend.py`)
    direct: Any = None  # the library that does attention in C too (`attend.py`)
    words: WordProducts | None = None  # log-probabilities in C, where that is the faster way
    in_pairs = False  # whether it does their slopes, and products with frozen weights

    def adapters(self, sizes: Sizes, dtype: torch.dtype) -> Adapters:
        """What does the work of the adapters of a group of projections."""
        return Products(sizes, dtype)

    def together(self, sizes: Sizes, addresses: Sequence[int], adapters: Adapters | None) -> Together | None:
        """What does the products of a group, whose weights lie at `addresses`, and its adapters in one; if anything."""
        return None

    def product(self, x_TI: Tensor, weight_OI: Tensor, out_TO: Tensor, onto_TO: Tensor | None = None) -> None:
        """out = x W', added to `onto_TO` where it is given."""
        if onto_TO is None:
            torch.mm(x_TI, weight_OI.T, out=out_TO)
        else:
            torch.addmm(onto_TO, x_TI, weight_OI.T, out=out_TO)

    def norm(self, x: Tensor, w: Tensor, eps: float, out: Tensor) -> None:
        """out = x / rms(x) * w (Zhang & Sennrich 2019, arXiv:1910.07467)."""
        value = x.float()
        out.copy_(value * torch.rsqrt(value.square().mean(-1, keepdim=True) + eps) * w)

    def norm_backward(self, x: Tensor, w: Tensor, eps: float, dy: Tensor, into: Tensor, add: bool) -> None:
        """The gradient of `norm`'s x from that of its output, written into `into` or added to it."""
        value, pull = x.float(), dy.float() * w
        r = torch.rsqrt(value.square().mean(-1, keepdim=True) + eps)
        dx = pull * r - value * ((value * pull).mean(-1, keepdim=True) * r**3)
        into.copy_(into.float() + dx if add else dx)

    def gate(self, gu: Tensor, out: Tensor, gelu: bool) -> None:
        """out = act(gate) * up."""
        g, u = gu.float().chunk(2, -1)
        out.copy_(_act(g, gelu) * u)

    def gate_backward(self, gu: Tensor, dh: Tensor, out: Tensor, gelu: bool) -> None:
        """The gradient of gate and up, written over them; and `gate` once more."""
        g, u = gu.float().chunk(2, -1)
        d = dh.float()
        with torch.enable_grad():
            leaf = g.detach().requires_grad_()
            act = _act(leaf, gelu)
            (slope,) = torch.autograd.grad(act, leaf, d * u)
        out.copy_(act.detach() * u)
        gu.copy_(torch.cat((slope, d * act.detach()), -1))

    def spread(self, x_THS: Tensor, places: Tensor, counts: Tensor, turn: Turn | None, scale: float = 1.0) -> Tensor:
        """Heads of the rows that stand at `places` (B x L), as BHLS; zero where a place is padding, on the left."""
        found = x_THS[places]
        if turn is not None:
            found = turn.by(found.float(), turn.cos[places][:, :, None] * scale, turn.sin[places][:, :, None] * scale)
        found = found * _real(places, counts)[:, :, None, None]
        return found.to(x_THS.dtype).transpose(1, 2).contiguous()

    def collect(
        self, x: Tensor, places: Tensor, counts: Tensor, turn: Turn | None, scale: float, out_THS: Tensor
    ) -> None:
        """The way back of `spread`, for places that occur once: padding is dropped."""
        real = _real(places, counts)
        found = x.transpose(1, 2)[real]
        at = places[real]
        if turn is not None:
            found = turn.by(found.float(), turn.cos[at][:, None] * scale, -turn.sin[at][:, None] * scale)
        out_THS[at] = found.to(out_THS.dtype)

    def accumulate(self, x: Tensor, places: Tensor, counts: Tensor, total_THS: Tensor) -> None:
        """The way back of `spread`, for places that may occur more than once: added up, in float32."""
        real = _real(places, counts)
        total_THS.index_add_(0, places[real], x.transpose(1, 2)[real].float())

    def settle(self, total_THS: Tensor, turn: Turn | None, out_THS: Tensor) -> None:
        """What `accumulate` added up, turned back."""
        out_THS.copy_(total_THS if turn is None else turn.by(total_THS, turn.cos[:, None], -turn.sin[:, None]))

    def softmax(self, scores: Tensor, counts: Tensor, window: int) -> None:
        """Softmax over the keys that a query sees, in place; 0 over the others. Window 0 is none."""
        seen = _seen(scores, counts, window)
        shares = scores.float().masked_fill_(~seen, LOWEST).softmax(-1)
        scores.copy_(shares.masked_fill_(~seen, 0.0))

    def softmax_backward(self, shares: Tensor, d: Tensor, counts: Tensor, window: int) -> None:
        """The gradient of the scores, written over that of the shares."""
        seen = _seen(shares, counts, window)
        p, g = shares.float(), d.float().masked_fill_(~seen, 0.0)
        d.copy_(p * (g - (p * g).sum(-1, keepdim=True)))

    def log_total(self, logits_NV: Tensor, cap: float) -> Tensor:
        """log of the sum of exp(logits), N float32; `cap` as in `log_share`. The logits stay."""
        raw = logits_NV.float()
        return (cap * (raw / cap).tanh() if cap else raw).logsumexp(-1)

    def log_share(self, logits_NV: Tensor, targets: Tensor, cap: float) -> Tensor:
        """log softmax(logits)[target], N float32; and over the logits its gradient. `cap` (0 none) bends them first."""
        raw = logits_NV.float()
        x = cap * (raw / cap).tanh() if cap else raw
        logs = x.log_softmax(-1)
        slope = -logs.exp()
        slope.scatter_add_(1, targets[:, None], torch.ones_like(targets[:, None], dtype=torch.float32))
        logits_NV.copy_(slope * (1 - (x / cap).square()) if cap else slope)
        return logs.gather(1, targets[:, None])[:, 0]


def _act(g: Tensor, gelu: bool) -> Tensor:
    return torch.nn.functional.gelu(g, approximate="tanh") if gelu else torch.nn.functional.silu(g)


def _real(places: Tensor, counts: Tensor) -> Tensor:
    width = places.shape[1]
    return torch.arange(width, device=places.device)[None] >= (width - counts)[:, None]


def _seen(scores: Tensor, counts: Tensor, window: int) -> Tensor:
    """Whether query i sees key j, B1QK."""
    queries, keys = scores.shape[-2:]
    age = torch.arange(queries)[:, None] + (keys - queries) - torch.arange(keys)[None, :]
    seen_QK = (age >= 0) & (age < window) if window else age >= 0
    real_BK = torch.arange(keys)[None, :] >= (keys - counts)[:, None]
    return (seen_QK[None] & real_BK[:, None, :])[:, None].to(scores.device)
