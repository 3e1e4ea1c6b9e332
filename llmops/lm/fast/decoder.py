"""`Decoder`: the blocks of a transformers model by hand, as one function of autograd over a whole pack.

The transformers model stays what holds the weights, and the reference: `tests/unit/test_fast.py` compares hidden states
and gradients. A model that is not one of `FAMILIES`, or carries anything but plain LoRA, has no fast decoder and goes
through transformers' own forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from llmops.core.errors import LlmopsError
from llmops.lm.fast.adapt import Factors, Gradients
from llmops.lm.fast.attend import LANE, places_of
from llmops.lm.fast.block import Kept, Pass, backward, forward
from llmops.lm.fast.families import FAMILIES, Stack, rank_of
from llmops.lm.fast.fused import Fused
from llmops.lm.fast.head import Head, Vocabulary, shared_logprobs
from llmops.lm.fast.plain import Plain, Turn
from llmops.lm.fast.room import Lender, Rooms
from llmops.lm.fast.spans import groups_of
from llmops.lm.mapped import lying_of

AllFactors = Sequence[Sequence[Factors | None]]  # of a layer: of each group, of each projection


@dataclass(frozen=True)
class Known:
    """A beginning of P tokens that was gone through: per layer its keys and values, P x 2 G E; its last states, PD."""

    ids: Sequence[int]
    layers: Sequence[Tensor]
    hidden_PD: Tensor


class Decoder:
    """Frozen blocks with the LoRA that they carry at the moment of a call."""

    def __init__(self, inner: Any, passes: Plain) -> None:
        """`inner`: a causal language model of transformers, with PEFT's layers in it or without."""
        self.inner = inner
        self.passes = passes
        self.lender = Lender(inner.dtype)
        self.stack: Stack = FAMILIES[inner.config.model_type](inner.get_decoder(), partial(Fused, passes=passes))

    def fits(self) -> bool:
        """Whether the layers still carry what they carried, and nothing that only transformers knows."""
        for block, layers in zip(self.stack.blocks, self.stack.layers, strict=True):
            for fused, members in zip(block.fused(), layers, strict=True):
                for layer, rank, place in zip(members, fused.ranks, fused.frozen.addresses, strict=True):
                    if not plain_layer(layer) or rank_of(layer) != rank or base_of(layer).weight.data_ptr() != place:
                        return False
        return not self.inner.get_input_embeddings().weight.requires_grad

    def token_logprobs(self, hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
        """log p(target) in nats, N float32, of each hidden state."""
        learn = torch.is_grad_enabled() and hidden_ND.requires_grad
        return Head.apply(self._vocabulary(), hidden_ND, targets_N, learn)

    def shared_logprobs(self, hidden_UD: Tensor, places_N: Tensor, targets_N: Tensor, sparing: bool = False) -> Tensor:
        """log p(target) in nats, N float32, where several targets may stand behind one hidden state. No gradient."""
        return shared_logprobs(self._vocabulary(sparing), hidden_UD, places_N, targets_N)

    def _vocabulary(self, sparing: bool = False) -> Vocabulary:
        cap = float(getattr(self.inner.config, "final_logit_softcapping", None) or 0.0)
        weight = self.inner.get_output_embeddings().weight
        return Vocabulary(self.passes, weight, cap, lying_of(weight) if sparing else None)

    def factors(self) -> list[list[list[Factors | None]]]:
        """Of each layer and group, the adapters that are switched on now; copied into the fused products."""
        found = []
        for block, layers in zip(self.stack.blocks, self.stack.layers, strict=True):
            of_block = []
            for fused, members in zip(block.fused(), layers, strict=True):
                of_group = [factors_of(layer) for layer in members]
                fused.refresh(of_group)
                of_block.append(of_group)
            found.append(of_block)
        return found

    def remember(self, ids: Sequence[int], sparing: bool = False) -> Known:
        """Go through the beginning `ids` of rows to come, once, in inference mode.

        A `sparing` pass, here and below, lets weights that lie in a file go, layer by layer.
        """
        self.factors()
        places = range(len(ids))
        step = replace(self._step(places, [places], False), remember=True, sparing=sparing)
        layers: list[Tensor] = []
        hidden_PD = self._through(step, ids, [None] * len(self.stack.blocks), layers)
        return Known(ids, layers, hidden_PD)

    def after(
        self,
        known: Known | None,
        ids: Sequence[int],
        positions: Sequence[int],
        paths: Sequence[Sequence[int]],
        sparing: bool = False,
    ) -> Tensor:
        """Hidden states TD of a pack, in inference mode; its first places are the beginning `known`, if any."""
        first = len(known.ids) if known else 0
        if known and len(ids) == first:
            return known.hidden_PD
        self.factors()
        step = replace(self._step(positions, paths, False, first), sparing=sparing)
        before = known.layers if known else [None] * len(self.stack.blocks)
        hidden_TD = self._through(step, ids[first:], before, [])
        return torch.cat((known.hidden_PD, hidden_TD)) if known else hidden_TD

    def _through(
        self, step: Pass, ids: Sequence[int], before: Sequence[Tensor | None], remembered: list[Tensor]
    ) -> Tensor:
        """The last hidden states behind what each layer had before; where it shall remember, keys and values too."""
        x_TD, desk = self.stack.embed(torch.tensor(ids)), step.rooms.desk
        if step.sparing and (lying := lying_of(self.stack.embed.weight)):
            lying.let_go()
        for block, earlier in zip(self.stack.blocks, before, strict=True):
            after_TD = torch.empty_like(x_TD)
            kept = forward(block, step, x_TD, after_TD, desk, earlier)
            if kept.qkv is not None:
                remembered.append(kept.qkv[:, block.heads.queries * block.heads.size :].clone())
            x_TD = after_TD
            desk.back_to(0)
        out_TD = torch.empty_like(x_TD)
        step.passes.norm(x_TD, self.stack.norm.weight, self.stack.norm.eps, out_TD)
        step.rooms.give_back()
        return out_TD

    def _step(
        self, positions: Sequence[int], paths: Sequence[Sequence[int]], keep: bool, known: int = 0, lean: bool = False
    ) -> Pass:
        fits = self.stack.blocks[0].heads.size % LANE == 0
        direct = fits and self.passes.direct is not None
        once = fits and self.passes.once is not None and not direct and not keep
        spans = places_of(paths, len(positions), known) if direct or once else groups_of(paths, known)
        rooms = self._rooms(len(positions) - known, keep, lean)
        return Pass(self.passes, spans, self._turns(positions), rooms, lean, once=once)

    def __call__(
        self,
        ids: Sequence[int],
        positions: Sequence[int],
        paths: Sequence[Sequence[int]],
        places_N: Tensor | None = None,
    ) -> Tensor:
        """Hidden states TD after the last norm, with a gradient for the adapters where autograd is on.

        With `places_N`, which rise, those of these places only, ND: in the last layer only they go on behind attention.
        """
        keep = torch.is_grad_enabled()
        with torch.no_grad():
            factors = self.factors()
            lean = bool(self.inner.get_decoder().gradient_checkpointing)
            step = self._step(positions, paths, keep, lean=lean)
            embedded_TD = self.stack.embed(torch.tensor(ids))
        trained = [tensor for factor in each(factors) for tensor in (factor.a_RI, factor.b_OR)]
        return Blocks.apply(self.stack, step, factors if keep else None, places_N, embedded_TD, *trained)

    def _rooms(self, tokens: int, keep: bool, lean: bool) -> Rooms:
        """Memory for a pack: of what a layer makes all is kept, or the stream before it, or nothing."""
        layers, block = len(self.stack.blocks), self.stack.blocks[0]
        kept, desk = block.numbers()
        if keep and not lean:
            return self.lender.lend(tokens * layers * kept, tokens * desk)
        return self.lender.lend(tokens * layers * block.qkv.inputs if keep else 0, tokens * (kept + desk))

    def _turns(self, positions: Sequence[int]) -> dict[str, Turn]:
        at = torch.tensor([list(positions)])
        return {name: Turn(*make(at)) for name, make in self.stack.turns.items()}


def each(factors: Sequence[AllFactors]) -> Iterator[Factors]:
    """Every factor that is there, in the order of layers."""
    return (factor for layer in factors for group in layer for factor in group if factor is not None)


def factors_of(layer: Any) -> Factors | None:
    """The LoRA of a layer as PEFT holds it; None where there is none. Switched off, its scale is 0."""
    if not hasattr(layer, "lora_A"):
        return None
    (name,) = layer.lora_A
    if layer.disable_adapters or name not in layer.active_adapters:
        return Factors(layer.lora_A[name].weight, layer.lora_B[name].weight, 0.0)
    return Factors(layer.lora_A[name].weight, layer.lora_B[name].weight, float(layer.scaling[name]))


class Blocks(torch.autograd.Function):  # type: ignore[misc]  # torch is Any to mypy
    """All blocks and the last norm. The frozen input needs no gradient; the factors get theirs.

    Without `factors` there is no way back and nothing is kept. With `step.lean` only the stream before each block is
    kept, and the block is gone through again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        stack: Stack,
        step: Pass,
        factors: Sequence[AllFactors] | None,
        places_N: Tensor | None,
        x_TD: Tensor,
        *trained: Tensor,
    ) -> Tensor:
        ctx.stack, ctx.step, ctx.factors = stack, step, factors
        ctx.kept = []
        keep = factors is not None
        rooms = step.rooms
        last = ctx.last_step = replace(step, places=places_N)
        for block in stack.blocks:
            here = last if block is stack.blocks[-1] else step
            before_TD, x_TD = x_TD, rooms.kept.take(len(x_TD if here.places is None else here.places), x_TD.shape[1])
            kept = forward(block, here, before_TD, x_TD, rooms.kept if keep and not step.lean else rooms.desk)
            rooms.desk.back_to(0)
            if keep:
                ctx.kept.append(before_TD if step.lean else kept)
        ctx.last = x_TD if keep else None
        out_TD = torch.empty_like(x_TD)
        step.passes.norm(x_TD, stack.norm.weight, stack.norm.eps, out_TD)
        if not keep:
            rooms.give_back()
        return out_TD

    @staticmethod
    def backward(ctx: Any, dout_TD: Tensor) -> tuple[Any, ...]:
        if ctx.last is None:
            raise LlmopsError("this forward pass was gone back through already", "do it again for another gradient")
        stack, step = ctx.stack, ctx.step
        d_TD = torch.empty_like(ctx.last)
        step.passes.norm_backward(ctx.last, stack.norm.weight, stack.norm.eps, dout_TD.contiguous(), d_TD, False)
        ctx.last = None
        into = Gradients(list(each(ctx.factors)))
        for index in reversed(range(len(stack.blocks))):
            kept: Kept | Tensor = ctx.kept.pop()
            if isinstance(kept, Tensor):
                here = ctx.last_step if index + 1 == len(stack.blocks) else step
                again_TD = step.rooms.desk.take(*d_TD.shape)
                kept = forward(stack.blocks[index], here, kept, again_TD, step.rooms.desk)
            d_TD = backward(stack.blocks[index], step, kept, d_TD, into, lowest=index == 0)
            step.rooms.desk.back_to(0)
        step.rooms.give_back()
        # A loss that is still at hand holds this node: through it, rooms that the next pack lets go of would stay.
        ctx.step = ctx.last_step = ctx.factors = None
        return None, None, None, None, None, *into.each()


def supports(inner: Any) -> bool:
    """Whether every layer is one that the fast decoder knows: a family of the table, frozen, at most plain LoRA."""
    if inner.config.model_type not in FAMILIES or inner.device.type != "cpu" or inner.config.attention_dropout:
        return False
    return all(
        plain_layer(layer)
        for name, layer in inner.get_decoder().named_modules()
        if hasattr(layer, "weight") or hasattr(layer, "base_layer")
        if "lora_" not in name and not name.endswith("base_layer")
    )


def base_of(layer: Any) -> Any:
    """A layer without what PEFT put around it; PEFT's own properties ask much more."""
    return getattr(layer, "base_layer", layer)


def plain_layer(layer: Any) -> bool:
    """Whether a layer is frozen and carries nothing, or one LoRA without dropout, bias or variant."""
    base = base_of(layer)
    if type(base.weight) is not torch.nn.Parameter or getattr(base, "bias", None) is not None:
        return False
    if base.weight.requires_grad:
        return False
    if layer is base:
        return True
    names = list(getattr(layer, "lora_A", ()))
    return (
        len(names) == 1
        and not layer.merged
        and not layer.lora_variant
        and not any(layer.lora_bias.values())
        and all(isinstance(dropout, torch.nn.Identity) for dropout in layer.lora_dropout.values())
    )
