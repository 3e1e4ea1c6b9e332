"""One block of a decoder, forward and backward, over a whole pack.

What the backward pass needs is kept: the residual stream before each half, q, k, v, the mixed values, gate and up, and
the shares of attention where it is not done in C. Norms and activations are computed again, because a pass over memory
costs a hundredth of the products. Weights are frozen, so there are two products a weight and token: forward, and the
gradient of the input.

Axes: T tokens, D hidden size, I inner size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from llmops.lm.fast.adapt import Gradients
from llmops.lm.fast.attend import Direct, Once, Places
from llmops.lm.fast.attention import Attention, Heads
from llmops.lm.fast.fused import Fused
from llmops.lm.fast.plain import Plain, Turn
from llmops.lm.fast.room import Room, Rooms
from llmops.lm.fast.spans import Group


@dataclass(frozen=True)
class Norm:
    """Weight (float32, the whole factor) and epsilon of an RMSNorm."""

    weight: Tensor
    eps: float


@dataclass(frozen=True)
class Block:
    """The frozen parts of one layer. Norms that a family does not have are None."""

    qkv: Fused
    out: Fused
    gate_up: Fused
    down: Fused
    heads: Heads
    before_attention: Norm
    before_mlp: Norm
    after_attention: Norm | None = None
    after_mlp: Norm | None = None
    of_queries: Norm | None = None
    of_keys: Norm | None = None
    gelu: bool = False
    window: int = 0
    turn: str = ""

    def numbers(self) -> tuple[int, int]:
        """How many numbers of a token are kept (with the stream after the block), and how many are on the desk."""
        hidden, inner = self.qkv.inputs, self.down.inputs
        ranks = [fused.rank for fused in self.fused()]
        kept = 2 * hidden + self.out.inputs + self.qkv.outputs + self.gate_up.outputs + sum(ranks)
        return kept, 4 * hidden + 2 * inner + self.out.inputs + self.qkv.outputs + 3 * max(ranks)

    def fused(self) -> tuple[Fused, Fused, Fused, Fused]:
        """The four groups of projections, in the order of the forward pass."""
        return self.qkv, self.out, self.gate_up, self.down


@dataclass
class Kept:
    """What one layer keeps for its backward pass: `products` are the A x of its four groups.

    `qkv` is kept only where a beginning is remembered (`Pass.remember`), which has no way back. `places` are those of
    the tokens that went on behind attention, where not all did: `middle` and what follows are theirs.
    """

    x: Tensor
    middle: Tensor
    mixed: Tensor
    gate_up: Tensor
    products: list[Tensor | None]
    seen: Any = None
    raw_qkv: Tensor | None = None
    raw_out: Tensor | None = None
    raw_down: Tensor | None = None
    qkv: Tensor | None = None
    places: Tensor | None = None


@dataclass(frozen=True)
class Pass:
    """What is the same for every layer of one pack: the passes over memory, the groups, the rotations by their name."""

    passes: Plain
    spans: Sequence[Group] | Places
    turns: dict[str, Turn]
    rooms: Rooms
    lean: bool = False
    remember: bool = False
    once: bool = False
    sparing: bool = False
    places: Tensor | None = None  # of the tokens that go on behind attention, in the last layer
    kinds: dict[tuple[str, int], Attention | Direct] = field(default_factory=dict)

    def attention(self, block: Block) -> Attention | Direct:
        """How the pack looks at itself in one layer, made once for all of its kind."""
        kind = (block.turn, block.window)
        if kind not in self.kinds:
            turn = self.turns[block.turn]
            if not isinstance(self.spans, Places):
                self.kinds[kind] = Attention(self.passes, block.heads, self.spans, turn, block.window)
            elif self.once:
                self.kinds[kind] = Once(self.passes.once, block.heads, self.spans, turn, block.window)
            else:
                self.kinds[kind] = Direct(self.passes.direct, block.heads, self.spans, turn, block.window)
        return self.kinds[kind]

    def normed(self, norm: Norm, x: Tensor) -> Tensor:
        """`x` normalised, on the desk."""
        out = self.rooms.desk.take(*x.shape)
        self.passes.norm(x, norm.weight, norm.eps, out)
        return out

    def back(self, norm: Norm | None, raw: Tensor | None, d: Tensor) -> Tensor:
        """The gradient of what a norm read, from that of what it gave; `d` itself where there is no norm."""
        if norm is None or raw is None:
            return d
        found = self.rooms.desk.take(*d.shape)
        self.passes.norm_backward(raw, norm.weight, norm.eps, d, found, False)
        return found


def forward(block: Block, step: Pass, x_TD: Tensor, after_TD: Tensor, room: Room, before: Tensor | None = None) -> Kept:
    """Fill `after_TD` with the residual stream after the block; returns what `backward` needs, in `room`.

    With `step.places`, N, only these tokens go on behind attention, and `after_TD` has N rows.

    `before` holds the keys and values, P x 2 G E, of P places that were gone through before: they stand in front of
    the others as keys, and there is no way back. What else it took from the desk the caller gives back.
    """
    tokens = len(x_TD)
    qkv, mixed = room.take(tokens, block.qkv.outputs), room.take(tokens, block.out.inputs)
    middle_TD = room.take(*x_TD.shape)
    ax_qkv = block.qkv.forward(step.normed(block.before_attention, x_TD), qkv, room)
    raw_qkv = qkv if block.of_queries else None
    if block.of_queries and block.of_keys:
        (raw_q, raw_k, _), (q, k, _) = block.heads.parts(qkv), block.heads.parts(qkv := qkv.clone())
        step.passes.norm(raw_q, block.of_queries.weight, block.of_queries.eps, q)
        step.passes.norm(raw_k, block.of_keys.weight, block.of_keys.eps, k)
    seen = step.attention(block).forward(qkv, mixed) if before is None else None
    if before is not None:
        _behind(before, block, step, qkv, mixed)
    raw_out, ax_out = _onto(block.out, room, block.after_attention, mixed, x_TD, middle_TD)
    if step.places is not None:
        middle_TD = middle_TD[step.places]
    gate_up = room.take(len(middle_TD), block.gate_up.outputs)
    inner_TI = step.rooms.desk.take(len(middle_TD), block.down.inputs)
    ax_gate_up = block.gate_up.gate(step.normed(block.before_mlp, middle_TD), gate_up, inner_TI, block.gelu, room)
    raw_down, ax_down = _onto(block.down, room, block.after_mlp, inner_TI, middle_TD, after_TD)
    products = [ax_qkv, ax_out, ax_gate_up, ax_down]
    own = qkv if step.remember else None
    if step.sparing:
        for fused in block.fused():
            fused.frozen.let_go()
    return Kept(x_TD, middle_TD, mixed, gate_up, products, seen, raw_qkv, raw_out, raw_down, own, step.places)


def _behind(before: Tensor, block: Block, step: Pass, qkv: Tensor, mixed: Tensor) -> None:
    """Fill `mixed` with attention over earlier places, which have keys and values but no queries, and over its own."""
    first, desk = len(before), step.rooms.desk
    all_qkv, all_mixed = (desk.take(first + len(each), each.shape[1]) for each in (qkv, mixed))
    all_qkv[:first, -before.shape[1] :], all_qkv[first:] = before, qkv
    step.attention(block).forward(all_qkv, all_mixed)
    mixed.copy_(all_mixed[first:])


def _onto(
    fused: Fused, room: Room, norm: Norm | None, inputs: Tensor, x_TD: Tensor, y_TD: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Fill y with x + the product, normalised where the family does so. Returns (the product before its norm; A x)."""
    if norm is None:
        return None, fused.forward(inputs, y_TD, room, x_TD)
    raw_TD = torch.empty_like(x_TD)
    ax = fused.forward(inputs, raw_TD, room)
    fused.frozen.passes.norm(raw_TD, norm.weight, norm.eps, y_TD)
    y_TD.add_(x_TD)
    return raw_TD, ax


def backward(block: Block, step: Pass, kept: Kept, d_TD: Tensor, into: Gradients, lowest: bool = False) -> Tensor:
    """The gradient before the block from `d_TD`, that after it, whose memory it takes; those of the factors go `into`.

    What was kept is used up. Nobody asks for the gradient before the `lowest` block, so it is not completed.
    """
    _mlp_backward(block, step, kept, d_TD, into)
    if kept.places is not None:
        d_TD = torch.zeros_like(kept.x).index_copy_(0, kept.places, d_TD)
    _attention_backward(block, step, kept, d_TD, into, lowest)
    return d_TD


def _mlp_backward(block: Block, step: Pass, kept: Kept, d_TD: Tensor, into: Gradients) -> None:
    """Turn `d_TD` into the gradient of the stream before the MLP, in place."""
    passes, desk = step.passes, step.rooms.desk
    _, _, ax_gate_up, ax_down = kept.products
    mark = desk.used
    dy_TD, inner_TI = step.back(block.after_mlp, kept.raw_down, d_TD), desk.take(len(d_TD), block.down.inputs)
    dax = block.down.gate_backward(dy_TD, kept.gate_up, inner_TI, block.gelu, desk)
    block.down.factor_gradients(inner_TI, ax_down, dy_TD, dax, into, desk)
    desk.back_to(mark)
    dx_TD = desk.take(*d_TD.shape)
    dax = block.gate_up.backward(kept.gate_up, dx_TD, desk)
    x_TD = step.normed(block.before_mlp, kept.middle)
    block.gate_up.factor_gradients(x_TD, ax_gate_up, kept.gate_up, dax, into, desk)
    passes.norm_backward(kept.middle, block.before_mlp.weight, block.before_mlp.eps, dx_TD, d_TD, True)
    desk.back_to(mark)


def _attention_backward(block: Block, step: Pass, kept: Kept, d_TD: Tensor, into: Gradients, lowest: bool) -> None:
    """Turn `d_TD` into the gradient of the stream before attention, in place; not of the `lowest` block."""
    passes, desk = step.passes, step.rooms.desk
    ax_qkv, ax_out, _, _ = kept.products
    mark = desk.used
    dy_TD, dmixed = step.back(block.after_attention, kept.raw_out, d_TD), desk.take(*kept.mixed.shape)
    dax = block.out.backward(dy_TD, dmixed, desk)
    block.out.factor_gradients(kept.mixed, ax_out, dy_TD, dax, into, desk)
    dqkv = desk.take(len(d_TD), block.qkv.outputs)
    step.attention(block).backward(kept.seen, dmixed, dqkv)
    if kept.raw_qkv is not None and block.of_queries and block.of_keys:
        (raw_q, raw_k, _), (dq, dk, _) = block.heads.parts(kept.raw_qkv), block.heads.parts(dqkv)
        passes.norm_backward(raw_q, block.of_queries.weight, block.of_queries.eps, dq, dq, False)
        passes.norm_backward(raw_k, block.of_keys.weight, block.of_keys.eps, dk, dk, False)
    dx_TD = None if lowest else desk.take(*d_TD.shape)
    dax = block.qkv.backward(dqkv, dx_TD, desk)
    x_TD = step.normed(block.before_attention, kept.x)
    block.qkv.factor_gradients(x_TD, ax_qkv, dqkv, dax, into, desk)
    if dx_TD is not None:
        passes.norm_backward(kept.x, block.before_attention.weight, block.before_attention.eps, dx_TD, d_TD, True)
    desk.back_to(mark)
