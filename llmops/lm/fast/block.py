"""One block of a decoder, forward and backward, over a whole pack.

What the backward pass needs is kept: the residual stream before each half, q, k, v and the shares of attention, the
mixed values, gate and up. Norms and activations are computed again, because a pass over memory costs a hundredth of
the products. Weights are frozen, so there are two products a weight and token: forward, and the gradient of the input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from llmops.lm.fast.attention import Heads, Seen, attend, attend_backward
from llmops.lm.fast.plain import Plain, Turn
from llmops.lm.fast.spans import Group
from llmops.lm.fast.square import Factors, Square


@dataclass(frozen=True)
class Norm:
    """Weight (float32, the whole factor) and epsilon of an RMSNorm."""

    weight: Tensor
    eps: float


@dataclass(frozen=True)
class Block:
    """The frozen parts of one layer. Norms that a family does not have are None."""

    qkv: Square
    out: Square
    gate_up: Square
    down: Square
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

    def squares(self) -> tuple[Square, Square, Square, Square]:
        """In the order of the gradients that `backward` gives."""
        return self.qkv, self.out, self.gate_up, self.down


@dataclass
class Kept:
    """What one layer keeps for its backward pass."""

    x: Tensor
    middle: Tensor
    mixed: Tensor
    gate_up: Tensor
    products: list[Tensor]
    seen: list[Seen] = field(default_factory=list)
    raw_qkv: Tensor | None = None
    raw_out: Tensor | None = None
    raw_down: Tensor | None = None


@dataclass(frozen=True)
class Pass:
    """What is the same for every layer of one pack: the passes over memory, the groups, the rotations by their name."""

    passes: Plain
    groups: Sequence[Group]
    turns: dict[str, Turn]


AllFactors = Sequence[Sequence[Factors | None]]


def normed(step: Pass, norm: Norm, x: Tensor, square: Square) -> Tensor:
    """`x` normalised, in a buffer with room for the products with A."""
    wide = square.wide(len(x))
    step.passes.norm(x, norm.weight, norm.eps, wide[:, : square.inputs])
    return wide


def _onto(step: Pass, norm: Norm | None, square: Square, wide: Tensor, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """(x + the normalised product, the product before its norm)."""
    if norm is None:
        return square.forward(wide, x), None
    raw = square.forward(wide)
    found = torch.empty_like(raw)
    step.passes.norm(raw, norm.weight, norm.eps, found)
    return found.add_(x), raw


def forward(block: Block, step: Pass, x: Tensor) -> tuple[Tensor, Kept]:
    """The residual stream TD after the block."""
    passes, turn = step.passes, step.turns[block.turn]
    wide = normed(step, block.before_attention, x, block.qkv)
    qkv = block.qkv.forward(wide)
    products = [block.qkv.products(wide)]
    raw_qkv = None
    if block.of_queries and block.of_keys:
        raw_qkv = qkv
        qkv = qkv.clone()
        for norm, raw, part in zip(
            (block.of_queries, block.of_keys), block.heads.parts(raw_qkv), block.heads.parts(qkv)
        ):
            passes.norm(raw, norm.weight, norm.eps, part)
    mixed = block.out.wide(len(x))
    values = mixed[:, : block.out.inputs]
    seen = attend(passes, block.heads, step.groups, block.heads.parts(qkv), turn, block.window, values)
    middle, raw_out = _onto(step, block.after_attention, block.out, mixed, x)
    wide = normed(step, block.before_mlp, middle, block.gate_up)
    gate_up = block.gate_up.forward(wide)
    inner = block.down.wide(len(x))
    passes.gate(gate_up, inner[:, : block.down.inputs], block.gelu)
    after, raw_down = _onto(step, block.after_mlp, block.down, inner, middle)
    products += [block.out.products(mixed), block.gate_up.products(wide), block.down.products(inner)]
    return after, Kept(x, middle, mixed, gate_up, products, seen, raw_qkv, raw_out, raw_down)


def backward(block: Block, step: Pass, kept: Kept, d: Tensor, factors: AllFactors) -> Iterator[list[Tensor]]:
    """Turn `d`, the gradient TD after the block, into the one before it, in place.

    Yields the gradients of the factors of down, gate_up, out and qkv in turn.
    """
    passes, turn = step.passes, step.turns[block.turn]
    of_qkv, of_out, of_gate_up, of_down = factors
    ax_qkv, ax_out, ax_gate_up, ax_down = kept.products
    dy = _through(step, block.after_mlp, kept.raw_down, d)
    dinner, dax = block.down.backward(dy)
    inner = block.down.wide(len(d))
    passes.gate_backward(kept.gate_up, dinner, inner[:, : block.down.inputs], block.gelu)
    yield block.down.factor_gradients(inner, ax_down, dy, dax, of_down)
    dx, dax = block.gate_up.backward(kept.gate_up)
    wide = normed(step, block.before_mlp, kept.middle, block.gate_up)
    yield block.gate_up.factor_gradients(wide, ax_gate_up, kept.gate_up, dax, of_gate_up)
    passes.norm_backward(kept.middle, block.before_mlp.weight, block.before_mlp.eps, dx, d, True)
    dy = _through(step, block.after_attention, kept.raw_out, d)
    dmixed, dax = block.out.backward(dy)
    yield block.out.factor_gradients(kept.mixed, ax_out, dy, dax, of_out)
    dqkv = attend_backward(passes, block.heads, step.groups, kept.seen, turn, block.window, dmixed)
    if kept.raw_qkv is not None and block.of_queries and block.of_keys:
        parts = zip((block.of_queries, block.of_keys), block.heads.parts(kept.raw_qkv), block.heads.parts(dqkv))
        for norm, raw, part in parts:
            passes.norm_backward(raw, norm.weight, norm.eps, part, part, False)
    dx, dax = block.qkv.backward(dqkv)
    wide = normed(step, block.before_attention, kept.x, block.qkv)
    yield block.qkv.factor_gradients(wide, ax_qkv, dqkv, dax, of_qkv)
    passes.norm_backward(kept.x, block.before_attention.weight, block.before_attention.eps, dx, d, True)


def _through(step: Pass, norm: Norm | None, raw: Tensor | None, d: Tensor) -> Tensor:
    """The gradient of a product from that of its norm, or of itself where it has none."""
    if norm is None or raw is None:
        return d
    found = torch.empty_like(d)
    step.passes.norm_backward(raw, norm.weight, norm.eps, d, found, False)
    return found
