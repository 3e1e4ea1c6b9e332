"""`Square`: frozen weights with the two LoRA factors around them, so that adapter and weight are one product.

For a projection y = W x + s B A x, one buffer holds [[W, s B], [A, 0]]. With its rows and columns

    [x, A x] @ [W, s B]^T   is y                       (the rank joins the sum over the input), and
    dy @ [W, s B]           is the gradient of x and A x in one product.

Projections that read the same input (q, k, v; gate, up) are stacked: their A below each other, their B on a diagonal.
Axes: T tokens, I inputs, O outputs, R ranks together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Factors:
    """One LoRA: A (rank x I) and B (O x rank), and the scale of their product."""

    a_RI: Tensor
    b_OR: Tensor
    scale: float


class Square:
    """Some linear layers that read the same input, as one frozen weight with the factors of their adapters."""

    def __init__(self, layers: Sequence[torch.nn.Linear], ranks: Sequence[int]) -> None:
        """Take over the weights: each layer's own becomes a view of the buffer, so they are in memory once."""
        weights = [layer.weight for layer in layers]
        self.inputs = weights[0].shape[1]
        self.outputs = [weight.shape[0] for weight in weights]
        self.ranks = list(ranks)
        rank, rows = sum(ranks), sum(self.outputs)
        self.rank = rank
        square = torch.zeros(rows + rank, self.inputs + rank, dtype=weights[0].dtype, device=weights[0].device)
        start = 0
        for layer, count in zip(layers, self.outputs, strict=True):
            view = square[start : start + count, : self.inputs]
            view.copy_(layer.weight.detach())
            layer.weight.data = view
            start += count
        self.weight_OI = square[:rows, : self.inputs]
        self.wide_OW = square[:rows]
        self.a_RI = square[rows:, : self.inputs]
        self.b_OR = square[:rows, self.inputs :]

    def places(self) -> list[tuple[slice, slice]]:
        """(rows of the outputs, places among the ranks) of each layer."""
        found, row, place = [], 0, 0
        for count, rank in zip(self.outputs, self.ranks, strict=True):
            found.append((slice(row, row + count), slice(place, place + rank)))
            row, place = row + count, place + rank
        return found

    def refresh(self, factors: Sequence[Factors | None]) -> None:
        """Copy the adapters' factors, as they are now, to their places."""
        for (rows, places), factor in zip(self.places(), factors, strict=True):
            if factor is not None:
                self.a_RI[places].copy_(factor.a_RI)
                self.b_OR[rows, places].copy_(factor.b_OR * factor.scale)

    def forward(self, x_TW: Tensor, onto: Tensor | None = None) -> Tensor:
        """Outputs TO of inputs that stand in the first I columns of `x_TW`, added to `onto` where it is given.

        The other columns are filled with A x.
        """
        if self.rank:
            x_TW[:, self.inputs :] = x_TW[:, : self.inputs] @ self.a_RI.T
        return x_TW @ self.wide_OW.T if onto is None else torch.addmm(onto, x_TW, self.wide_OW.T)

    def backward(self, dy_TO: Tensor) -> tuple[Tensor, Tensor]:
        """(gradient of the inputs TI, gradient of A x, TR)."""
        dx_TW = dy_TO @ self.wide_OW
        dx_TI, dax_TR = dx_TW[:, : self.inputs], dx_TW[:, self.inputs :]
        if self.rank:
            dx_TI.addmm_(dax_TR, self.a_RI)
        return dx_TI, dax_TR

    def factor_gradients(
        self, x_TW: Tensor, ax_TR: Tensor, dy_TO: Tensor, dax_TR: Tensor, factors: Sequence[Factors | None]
    ) -> list[Tensor]:
        """Gradients of A and B of each adapter in turn, from x (its first I columns), A x, and what `backward` gave."""
        if not self.rank:
            return []
        da_RI = dax_TR.T @ x_TW[:, : self.inputs]
        db_RO = ax_TR.T @ dy_TO
        found: list[Tensor] = []
        for (rows, places), factor in zip(self.places(), factors, strict=True):
            if factor is not None:
                found += [
                    da_RI[places].to(factor.a_RI.dtype),
                    db_RO[places, rows].T.to(factor.b_OR.dtype, memory_format=torch.contiguous_format) * factor.scale,
                ]
        return found

    def products(self, x_TW: Tensor) -> Tensor:
        """A x, as `forward` left it, in memory of its own."""
        return x_TW[:, self.inputs :].clone()

    def wide(self, tokens: int) -> Tensor:
        """An empty buffer for `forward`: inputs, and room for A x."""
        return torch.empty(tokens, self.inputs + self.rank, dtype=self.wide_OW.dtype, device=self.wide_OW.device)
