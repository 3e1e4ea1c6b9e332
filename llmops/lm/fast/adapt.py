"""Adapters of a group of projections (`fused.py`): `Products` by torch, `Narrow` in C (`adapt.c`).

A general routine spends most of its time on such narrow products on other things (recipes/LOG.md).

Axes: T tokens, I inputs, O outputs, R ranks together (in C each layer's own filled up to a multiple of eight).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from llmops.lm.fast.room import Room

EIGHT, LANE = 8, 16  # ranks, and columns, of which `adapt.c` takes so many at once


@dataclass(frozen=True)
class Factors:
    """One LoRA: A (rank x I) and B (O x rank), and the scale of their product."""

    a_RI: Tensor
    b_OR: Tensor
    scale: float


@dataclass(frozen=True)
class Sizes:
    """Of a group: its inputs, and of each layer the outputs and the rank (0: no adapter)."""

    inputs: int
    outputs: Sequence[int]
    ranks: Sequence[int]

    def places(self, ranks: Sequence[int]) -> list[tuple[slice, slice]]:
        """Of each layer: its rows among the outputs, and its `ranks` among all."""
        found, row, place = [], 0, 0
        for outputs, rank in zip(self.outputs, ranks, strict=True):
            found.append((slice(row, row + outputs), slice(place, place + rank)))
            row, place = row + outputs, place + rank
        return found


class Gradients:
    """Of all factors of a pack, in the order of layers, one after the other: to allocate each would take its time.

    They are filled from the end on, as the backward pass comes by.
    """

    def __init__(self, factors: Sequence[Factors]) -> None:
        self.trained = [tensor for factor in factors for tensor in (factor.a_RI, factor.b_OR)]
        self.sizes = [tensor.numel() for tensor in self.trained]
        self.whole = torch.empty(sum(self.sizes), dtype=torch.float32)
        self.open = len(self.whole)

    def last(self, count: int) -> int:
        """Where the last `count` numbers begin that nobody has filled yet."""
        self.open -= count
        return self.open

    def each(self) -> list[Tensor]:
        """Of A and B of each adapter in turn, in their own precision, when all are filled."""
        assert self.open == 0, f"{self.open} numbers of the gradient were not filled"
        pieces = self.whole.split(self.sizes)
        return [piece.view(of.shape).to(of.dtype) for piece, of in zip(pieces, self.trained, strict=True)]


class Adapters(Protocol):
    """What a group of projections asks of its adapters: y = W x + s B A x, of each layer, without the W x.

    What is between, TR, and what the work needs, lies in a `room`.
    """

    rank: int

    def refresh(self, factors: Sequence[Factors | None]) -> None:
        """Take over the factors as they are now."""

    def forward(self, x_TI: Tensor, y_TO: Tensor, room: Room) -> Tensor:
        """Add s B A x to `y_TO`; returns A x, TR."""

    def backward(self, dy_TO: Tensor, dx_TI: Tensor | None, room: Room) -> Tensor:
        """Add the gradient that the inputs have through the adapters to `dx_TI`, if any; returns that of A x, TR."""

    def gradients(
        self, x_TI: Tensor, ax_TR: Tensor, dy_TO: Tensor, dax_TR: Tensor, into: Gradients, room: Room
    ) -> None:
        """Fill the last that are open `into`."""


class Products:
    """The A below each other and the s B on a diagonal, so that a group costs two narrow products."""

    def __init__(self, sizes: Sizes, dtype: torch.dtype) -> None:
        self.places, self.rank = sizes.places(sizes.ranks), sum(sizes.ranks)
        self.scales = [0.0] * len(self.places)
        self.a_RI = torch.zeros(self.rank, sizes.inputs, dtype=dtype)
        self.b_OR = torch.zeros(sum(sizes.outputs), self.rank, dtype=dtype)

    def refresh(self, factors: Sequence[Factors | None]) -> None:
        self.scales = [factor.scale if factor else 0.0 for factor in factors]
        for (rows, places), factor in zip(self.places, factors, strict=True):
            if factor is not None:
                self.a_RI[places].copy_(factor.a_RI)
                self.b_OR[rows, places].copy_(factor.b_OR * factor.scale)

    def forward(self, x_TI: Tensor, y_TO: Tensor, room: Room) -> Tensor:
        ax_TR = torch.mm(x_TI, self.a_RI.T, out=room.take(len(x_TI), self.rank))
        y_TO.addmm_(ax_TR, self.b_OR.T)
        return ax_TR

    def backward(self, dy_TO: Tensor, dx_TI: Tensor | None, room: Room) -> Tensor:
        dax_TR = torch.mm(dy_TO, self.b_OR, out=room.take(len(dy_TO), self.rank))
        if dx_TI is not None:
            dx_TI.addmm_(dax_TR, self.a_RI)
        return dax_TR

    def gradients(
        self, x_TI: Tensor, ax_TR: Tensor, dy_TO: Tensor, dax_TR: Tensor, into: Gradients, room: Room
    ) -> None:
        da_RI, db_RO = dax_TR.T @ x_TI, ax_TR.T @ dy_TO
        for (rows, places), scale in reversed(list(zip(self.places, self.scales, strict=True))):
            for found, times in ((db_RO[places, rows].T, scale), (da_RI[places], 1.0)):
                at = into.last(found.numel())
                into.whole[at : at + found.numel()].view(found.shape).copy_(found).mul_(times)


class Part(ctypes.Structure):
    """`Part` of `adapt.h`."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("a", "b")),
        ("scale", ctypes.c_float),
        *((name, ctypes.c_long) for name in ("rank", "column", "columns", "first", "ranks")),
    )


class Group(ctypes.Structure):
    """`Group` of `adapt.h`."""

    _fields_ = (
        ("parts", ctypes.POINTER(Part)),
        *((name, ctypes.c_long) for name in ("count", "inputs", "outputs", "ranks")),
        *((name, ctypes.c_void_p) for name in ("a_down", "a_up", "b_down", "b_up")),
    )


class Narrow:
    """The same in C, for bfloat16; factors and their gradients are float32."""

    def __init__(self, sizes: Sizes, library: Any) -> None:
        self.library, self.inputs, self.ranks = library, sizes.inputs, sizes.ranks
        filled = [-(-rank // EIGHT) * EIGHT for rank in sizes.ranks]
        self.rank = sum(filled)
        self.parts = (Part * sum(rank > 0 for rank in filled))(
            *(
                Part(
                    rank=rank,
                    column=rows.start,
                    columns=rows.stop - rows.start,
                    first=at.start,
                    ranks=at.stop - at.start,
                )
                for rank, (rows, at) in zip(sizes.ranks, sizes.places(filled), strict=True)
                if rank
            )
        )
        self.numbers = sum(part.rank * (self.inputs + part.columns) for part in self.parts)
        of_b = sum(part.columns * part.ranks for part in self.parts)
        self.packed = [torch.zeros(count, dtype=torch.bfloat16) for count in [self.inputs * self.rank] * 2 + [of_b] * 2]
        self.group = Group(
            self.parts,
            len(self.parts),
            self.inputs,
            sum(sizes.outputs),
            self.rank,
            *map(torch.Tensor.data_ptr, self.packed),
        )

    def ups(self) -> list[tuple[int, int, int]]:
        """Of each layer: its first rank among all and how many it has, filled up; and where its s B lies in pairs."""
        found, at = [], self.group.b_up
        parts = iter(self.parts)
        for rank in self.ranks:
            part = next(parts) if rank else Part()
            found.append((part.first, part.ranks, at))
            at += part.columns * part.ranks * self.packed[-1].element_size()
        return found

    def refresh(self, factors: Sequence[Factors | None]) -> None:
        held = []
        for part, factor in zip(self.parts, filter(None, factors), strict=True):
            a_RI, b_OR = factor.a_RI.float().contiguous(), factor.b_OR.float().contiguous()
            part.a, part.b, part.scale = a_RI.data_ptr(), b_OR.data_ptr(), factor.scale
            held += [a_RI, b_OR]
        self.library.adapt_refresh(ctypes.byref(self.group))

    def forward(self, x_TI: Tensor, y_TO: Tensor, room: Room) -> Tensor:
        return self.between(x_TI, False, room, y_TO)

    def backward(self, dy_TO: Tensor, dx_TI: Tensor | None, room: Room) -> Tensor:
        return self.between(dy_TO, True, room, dx_TI)

    def between(self, x: Tensor, back: bool, room: Room, y: Tensor | None) -> Tensor:
        """A x, TR, or the gradient of it from that of the outputs; what follows from it is added to `y`."""
        between_TR = room.take(len(x), self.rank)
        self.library.adapt(
            ctypes.byref(self.group), ctypes.c_int(back), _at(x), _at(between_TR), _at(y), ctypes.c_long(len(x))
        )
        return between_TR

    def gradients(
        self, x_TI: Tensor, ax_TR: Tensor, dy_TO: Tensor, dax_TR: Tensor, into: Gradients, room: Room
    ) -> None:
        found = into.whole.data_ptr() + 4 * into.last(self.numbers)
        pairs = room.take(2 * (len(x_TI) + 1), self.rank)
        self.library.adapt_gradients(
            ctypes.byref(self.group),
            *map(_at, (x_TI, ax_TR, dy_TO, dax_TR, pairs)),
            ctypes.c_void_p(found),
            ctypes.c_long(len(x_TI)),
        )


def _at(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
