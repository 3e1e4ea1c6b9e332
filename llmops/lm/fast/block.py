"""One block of a decoder, forward and backward, over a whole pack.

What the backward pass needs is kept: the residual stream before each half, q, k, v and the shares of attention, the
mixed values, gate and up. Norms and activations are computed again, because a pass over memory costs a hundredth of
the products. Weights are frozen, so there are two products a weight and token: forward, and the gradient of the input.

Axes: T tokens, D hidden size, I inner size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from llmops.lm.fast.attention import Attention, Heads, Seen
from llmops.lm.fast.fused import Factors, Fused
from llmops.lm.fast.plain import Plain, Turn
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

    def fused(self) -> tuple[Fused, Fused, Fused, Fused]:
        """The four groups of projections, in the order of the forward pass."""
        return self.qkv, self.out, self.gate_up, self.down


@dataclass
class Kept:
    """What one layer keeps for its backward pass: `products` are the A x of its four groups.

    `qkv` is kept only where a beginning is remembered (`Pass.remember`), which has no way back.
    """

    x: Tensor
    middle: Tensor
    mixed: Tensor
    gate_up: Tensor
    products: list[Tensor]
    seen: list[Seen] = field(default_factory=list)
    raw_qkv: Tensor | None = None
    raw_out: Tensor | None = None
    raw_down: Tensor | None = None
    qkv: Tensor | None = None


@dataclass(frozen=True)
class Pass:
    """What is the same for every layer of one pack: the passes over memory, the groups, the rotations by their name."""

    passes: Plain
    groups: Sequence[Group]
    turns: dict[str, Turn]
    lean: bool = False
    remember: bool = False

    def attention(self, block: Block) -> Attention:
        """How the pack looks at itself in one layer."""
        return Attention(self.passes, block.heads, self.groups, self.turns[block.turn], block.window)

    def normed(self, norm: Norm, x: Tensor) -> Tensor:
        """`x` normalised, in memory of its own."""
        out = torch.empty_like(x)
        self.passes.norm(x, norm.weight, norm.eps, out)
        return out

    def back(self, norm: Norm | None, raw: Tensor | None, d: Tensor) -> Tensor:
        """The gradient of what a norm read, from that of what it gave; `d` itself where there is no norm."""
        if norm is None or raw is None:
            return d
        found = torch.empty_like(d)
        self.passes.norm_backward(raw, norm.weight, norm.eps, d, found, False)
        return found


AllFactors = Sequence[Sequence[Factors | None]]


def forward(block: Block, step: Pass, x_TD: Tensor, before: Tensor | None = None) -> tuple[Tensor, Kept]:
    """The residual stream after the block, and what `backward` needs.

    `before` holds the keys and values, P x 2 G E, of P places that were gone through before (there is no way back to
    them): they stand in front of the others as keys.
    """
    qkv, ax_qkv = block.qkv.forward(step.normed(block.before_attention, x_TD))
    raw_qkv = qkv if block.of_queries else None
    if block.of_queries and block.of_keys:
        (raw_q, raw_k, _), (q, k, _) = block.heads.parts(qkv), block.heads.parts(qkv := qkv.clone())
        step.passes.norm(raw_q, block.of_queries.weight, block.of_queries.eps, q)
        step.passes.norm(raw_k, block.of_keys.weight, block.of_keys.eps, k)
    own = qkv if step.remember else None
    if before is not None:
        qkv = _behind(before, qkv)
    mixed = qkv.new_empty(len(qkv), block.out.inputs)
    seen = step.attention(block).forward(qkv, mixed)
    mixed = mixed[len(mixed) - len(x_TD) :]
    middle_TD, raw_out, ax_out = _onto(block.out, step, block.after_attention, mixed, x_TD)
    gate_up, ax_gate_up = block.gate_up.forward(step.normed(block.before_mlp, middle_TD))
    inner_TI = qkv.new_empty(len(x_TD), block.down.inputs)
    step.passes.gate(gate_up, inner_TI, block.gelu)
    after_TD, raw_down, ax_down = _onto(block.down, step, block.after_mlp, inner_TI, middle_TD)
    products = [ax_qkv, ax_out, ax_gate_up, ax_down]
    return after_TD, Kept(x_TD, middle_TD, mixed, gate_up, products, seen, raw_qkv, raw_out, raw_down, own)


def _behind(before: Tensor, qkv: Tensor) -> Tensor:
    """The stacked q, k and v with the keys and values of earlier places in front, which have no queries."""
    both = qkv.new_empty(len(before) + len(qkv), qkv.shape[1])
    both[: len(before), -before.shape[1] :], both[len(before) :] = before, qkv
    return both


def _onto(
    fused: Fused, step: Pass, norm: Norm | None, inputs: Tensor, x_TD: Tensor
) -> tuple[Tensor, Tensor | None, Tensor]:
    """(x + the product, normalised where the family does so; the product before its norm; A x)."""
    if norm is None:
        after_TD, ax = fused.forward(inputs, x_TD)
        return after_TD, None, ax
    raw, ax = fused.forward(inputs)
    return step.normed(norm, raw).add_(x_TD), raw, ax


def backward(block: Block, step: Pass, kept: Kept, d_TD: Tensor, factors: AllFactors) -> Iterator[list[Tensor]]:
    """Turn `d_TD`, the gradient after the block, into the one before it, in place. What was kept is used up.

    Yields the gradients of the factors of down, gate_up, out and qkv in turn.
    """
    passes = step.passes
    of_qkv, of_out, of_gate_up, of_down = factors
    ax_qkv, ax_out, ax_gate_up, ax_down = kept.products
    dy_TD = step.back(block.after_mlp, kept.raw_down, d_TD)
    dinner_TI, dax = block.down.backward(dy_TD)
    inner_TI = torch.empty_like(dinner_TI)
    passes.gate_backward(kept.gate_up, dinner_TI, inner_TI, block.gelu)
    yield block.down.factor_gradients(inner_TI, ax_down, dy_TD, dax, of_down)
    dx_TD, dax = block.gate_up.backward(kept.gate_up)
    x_TD = step.normed(block.before_mlp, kept.middle)
    yield block.gate_up.factor_gradients(x_TD, ax_gate_up, kept.gate_up, dax, of_gate_up)
    passes.norm_backward(kept.middle, block.before_mlp.weight, block.before_mlp.eps, dx_TD, d_TD, True)
    dy_TD = step.back(block.after_attention, kept.raw_out, d_TD)
    dmixed, dax = block.out.backward(dy_TD)
    yield block.out.factor_gradients(kept.mixed, ax_out, dy_TD, dax, of_out)
    dqkv = step.attention(block).backward(kept.seen, dmixed)
    if kept.raw_qkv is not None and block.of_queries and block.of_keys:
        (raw_q, raw_k, _), (dq, dk, _) = block.heads.parts(kept.raw_qkv), block.heads.parts(dqkv)
        passes.norm_backward(raw_q, block.of_queries.weight, block.of_queries.eps, dq, dq, False)
        passes.norm_backward(raw_k, block.of_keys.weight, block.of_keys.eps, dk, dk, False)
    dx_TD, dax = block.qkv.backward(dqkv)
    x_TD = step.normed(block.before_attention, kept.x)
    yield block.qkv.factor_gradients(x_TD, ax_qkv, dqkv, dax, of_qkv)
    passes.norm_backward(kept.x, block.before_attention.weight, block.before_attention.eps, dx_TD, d_TD, True)
