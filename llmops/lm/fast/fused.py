"""`Fused`: projections that read the same input (q, k, v; gate, up) as one frozen product, with their adapters.

For y = W x + s B A x of each layer the W stand below each other, so that a group costs one large product; the rest is
that of its adapters (`adapt.py`), or part of the same sum (`Together`). Gradients go to the input and to A and B, never
to W. (The factors inside torch's large product, as more rows or columns of it, were slower: recipes/LOG.md.)

Axes: T tokens, I inputs, O outputs, R ranks together.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llmops.lm.fast.adapt import Factors, Gradients, Sizes
from llmops.lm.fast.frozen import Frozen
from llmops.lm.fast.plain import Plain
from llmops.lm.fast.products import LEAST_ROWS, Together
from llmops.lm.fast.room import Room


class Fused:
    """Some linear layers that read the same input, as one frozen weight, with their adapters."""

    def __init__(self, layers: Sequence[torch.nn.Linear], ranks: Sequence[int], passes: Plain) -> None:
        self.frozen = Frozen(layers, passes)
        self.outputs, self.inputs = self.frozen.outputs, self.frozen.inputs
        self.ranks = list(ranks)
        sizes = Sizes(self.inputs, [rows.stop - rows.start for rows in self.frozen.rows], self.ranks)
        self.adapters = passes.adapters(sizes, layers[0].weight.dtype) if any(ranks) else None
        self.together = passes.together(sizes, self.frozen.addresses, self.adapters)

    def refresh(self, factors: Sequence[Factors | None]) -> None:
        """Take over the adapters' factors, as they are now."""
        if self.adapters:
            self.adapters.refresh(factors)

    @property
    def rank(self) -> int:
        """How many numbers of a token are between A and B."""
        return self.adapters.rank if self.adapters else 0

    def forward(self, x_TI: Tensor, y_TO: Tensor, room: Room, onto_TO: Tensor | None = None) -> Tensor | None:
        """Fill `y_TO` with the outputs, added to `onto_TO` where it is given; returns A x, for B's gradient."""
        if (together := self._together(x_TI)) is not None:
            return together.forward(x_TI, y_TO, room, onto_TO)
        self.frozen.forward(x_TI, y_TO, onto_TO)
        return self.adapters.forward(x_TI, y_TO, room) if self.adapters else None

    def backward(self, dy_TO: Tensor, dx_TI: Tensor | None, room: Room) -> Tensor | None:
        """Fill `dx_TI`, where it is given, with the gradient of the inputs; returns that of A x."""
        if dx_TI is None:
            return self.adapters.backward(dy_TO, None, room) if self.adapters else None
        if (together := self._together(dy_TO)) is not None:
            return together.backward(dy_TO, dx_TI, room)
        self.frozen.backward(dy_TO, dx_TI)
        return self.adapters.backward(dy_TO, dx_TI, room) if self.adapters else None

    def gate(self, x_TI: Tensor, gu: Tensor, inner: Tensor, gelu: bool, room: Room) -> Tensor | None:
        """Of gate and up: `forward` to `gu`, and what is gated to `inner`; returns A x."""
        if (together := self._together(x_TI)) is not None:
            return together.gate(x_TI, gu, inner, gelu, room)
        ax = self.forward(x_TI, gu, room)
        self.frozen.passes.gate(gu, inner, gelu)
        return ax

    def gate_backward(self, dy_TO: Tensor, gu: Tensor, inner: Tensor, gelu: bool, room: Room) -> Tensor | None:
        """Of what follows gate and up: turn `gu` into its gradient, fill `inner` again; returns the gradient of A x."""
        if (together := self._together(dy_TO)) is not None:
            return together.gate_backward(dy_TO, gu, inner, gelu, room)
        dinner = room.take(*inner.shape)
        dax = self.backward(dy_TO, dinner, room)
        self.frozen.passes.gate_backward(gu, dinner, inner, gelu)
        return dax

    def _together(self, x: Tensor) -> Together | None:
        """What does product and adapters in one, where that is the faster way for so many tokens."""
        return self.together if x.shape[0] >= LEAST_ROWS else None

    def factor_gradients(
        self, x_TI: Tensor, ax: Tensor | None, dy_TO: Tensor, dax: Tensor | None, into: Gradients, room: Room
    ) -> None:
        """Fill the last open gradients with those of A and B of each adapter."""
        if self.adapters is not None and ax is not None and dax is not None:
            self.adapters.gradients(x_TI, ax, dy_TO, dax, into, room)
