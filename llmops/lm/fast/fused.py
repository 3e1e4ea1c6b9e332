"""`Fused`: projections that read the same input (q, k, v; gate, up) as one frozen product, with their adapters.

For y = W x + s B A x of each layer, the W and the A stand below each other and the s B on a diagonal, so that a group
costs one large product and two narrow ones. Gradients go to the input and to A and B, never to W.
(The factors inside the large product, as more rows or columns of it, were slower: recipes/LOG.md.)

Axes: T tokens, I inputs, O outputs, R ranks together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llmops.lm.fast.frozen import Frozen
from llmops.lm.fast.plain import Plain


@dataclass(frozen=True)
class Factors:
    """One LoRA: A (rank x I) and B (O x rank), and the scale of their product."""

    a_RI: Tensor
    b_OR: Tensor
    scale: float


class Fused:
    """Some linear layers that read the same input, as one frozen weight, with room for their adapters' factors."""

    def __init__(self, layers: Sequence[torch.nn.Linear], ranks: Sequence[int], passes: Plain) -> None:
        self.frozen = Frozen(layers, passes)
        self.outputs, self.inputs = self.frozen.outputs, self.frozen.inputs
        self.rank = sum(ranks)
        self.ranks = list(ranks)
        self.a_RI = layers[0].weight.new_zeros(self.rank, self.inputs)
        self.b_OR = layers[0].weight.new_zeros(self.outputs, self.rank)
        self.places: list[tuple[slice, slice]] = []  # of each layer: its rows among the outputs, and among the ranks
        place = 0
        for rows, rank in zip(self.frozen.rows, ranks, strict=True):
            self.places.append((rows, slice(place, place + rank)))
            place += rank

    def refresh(self, factors: Sequence[Factors | None]) -> None:
        """Copy the adapters' factors, as they are now, to their places."""
        for (rows, places), factor in zip(self.places, factors, strict=True):
            if factor is not None:
                self.a_RI[places].copy_(factor.a_RI)
                self.b_OR[rows, places].copy_(factor.b_OR * factor.scale)

    def forward(self, x_TI: Tensor, y_TO: Tensor, onto_TO: Tensor | None = None) -> Tensor:
        """Fill `y_TO` with the outputs, added to `onto_TO` where it is given; returns A x, TR, for B's gradient."""
        self.frozen.forward(x_TI, y_TO, onto_TO)
        ax_TR = x_TI @ self.a_RI.T
        if self.rank:
            y_TO.addmm_(ax_TR, self.b_OR.T)
        return ax_TR

    def backward(self, dy_TO: Tensor, dx_TI: Tensor) -> Tensor:
        """Fill `dx_TI` with the gradient of the inputs; returns that of A x, TR."""
        self.frozen.backward(dy_TO, dx_TI)
        dax_TR = dy_TO @ self.b_OR
        if self.rank:
            dx_TI.addmm_(dax_TR, self.a_RI)
        return dax_TR

    def factor_gradients(
        self, x_TI: Tensor, ax_TR: Tensor, dy_TO: Tensor, dax_TR: Tensor, factors: Sequence[Factors | None]
    ) -> list[Tensor]:
        """Gradients of A and B of each adapter in turn."""
        if not self.rank:
            return []
        da_RI, db_RO = dax_TR.T @ x_TI, ax_TR.T @ dy_TO
        found: list[Tensor] = []
        for (rows, places), factor in zip(self.places, factors, strict=True):
            if factor is not None:
                found.append(da_RI[places].to(factor.a_RI.dtype))
                found.append((db_RO[places, rows].T.to(factor.b_OR.dtype) * factor.scale).contiguous())
        return found
