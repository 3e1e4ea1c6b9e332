"""Products with frozen weights in C, by their arguments: `Together` (`frozen.c`) and `WordProducts` (`words.c`).

Axes: T tokens, I inputs, O outputs; U states, N targets, D hidden size, V vocabulary.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llmops.lm.fast.adapt import Group, Narrow
from llmops.lm.fast.room import Room

LEAST_ROWS = 96  # of fewer, torch's are as fast or faster: to lay weights out costs as much as a dozen rows


class Words(ctypes.Structure):
    """`Words` of `words.h`."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "w")),
        *((name, ctypes.c_long) for name in ("stride", "rows", "inputs", "words")),
        ("cap", ctypes.c_float),
    )


@dataclass(frozen=True)
class WordProducts:
    """Log-probabilities of words, of which no logits are written. A final soft `cap` (0: none) bends logits first."""

    library: Any

    def log_totals(self, hidden_UD: Tensor, weight_VD: Tensor, cap: float) -> Tensor:
        """log of the sum of exp of the logits of each state, U."""
        of, found = _words(hidden_UD, weight_VD, cap), torch.empty(len(hidden_UD))
        room = self._room(of)
        self.library.log_totals(ctypes.byref(of), _at(room), _at(found))
        return found

    def target_logits(
        self, hidden_UD: Tensor, weight_VD: Tensor, cap: float, places_N: Tensor, targets_N: Tensor
    ) -> Tensor:
        """The logit of each target behind the state at its place, N."""
        of, found = _words(hidden_UD, weight_VD, cap), torch.empty(len(targets_N))
        count = ctypes.c_long(len(targets_N))
        self.library.target_logits(ctypes.byref(of), _at(places_N), _at(targets_N), _at(found), count)
        return found

    def slopes(self, hidden_ND: Tensor, weight_VD: Tensor, cap: float, targets_N: Tensor, slopes_ND: Tensor) -> Tensor:
        """log p(target) of each state, N; its gradient by the state goes to `slopes_ND`. In bfloat16 only."""
        of, found = _words(hidden_ND, weight_VD, cap), torch.empty(len(hidden_ND))
        room = self._room(of)
        self.library.word_slopes(ctypes.byref(of), *map(_at, (room, targets_N, found, slopes_ND)))
        return found

    def _room(self, of: Words) -> Tensor:
        """What the threads work in; to be held until they have."""
        return torch.empty(self.library.words_held(ctypes.c_long(of.rows), ctypes.c_long(of.inputs)))


def _words(hidden_ND: Tensor, weight_VD: Tensor, cap: float) -> Words:
    places = (hidden_ND.data_ptr(), weight_VD.data_ptr())
    return Words(*places, hidden_ND.stride(0), *hidden_ND.shape, len(weight_VD), cap)


class Layer(ctypes.Structure):
    """`Layer` of `frozen.c`."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("w", "up")),
        *((name, ctypes.c_long) for name in ("columns", "first", "ranks")),
    )


class Stack(ctypes.Structure):
    """`Stack` of `frozen.c`."""

    _fields_ = (
        ("layers", ctypes.POINTER(Layer)),
        *((name, ctypes.c_long) for name in ("count", "inputs", "outputs")),
        ("adapters", ctypes.POINTER(Group)),
    )


class Rows(ctypes.Structure):
    """`Rows` of `frozen.c`."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "onto", "between", "y", "inner")),
        *((name, ctypes.c_long) for name in ("x_stride", "onto_stride", "y_stride", "rows", "gelu")),
    )


class Together:
    """The frozen weights of some layers that read the same input, with their adapters: one sum, rounded once."""

    def __init__(self, library: Any, weights: Sequence[tuple[int, int]], inputs: int, adapters: Narrow | None) -> None:
        """`weights`: where each layer's lie, and its outputs."""
        self.library, self.adapters = library, adapters
        ups = adapters.ups() if adapters else [(0, 0, 0)] * len(weights)
        layers = [
            Layer(place, up, outputs, first, ranks)
            for (place, outputs), (first, ranks, up) in zip(weights, ups, strict=True)
        ]
        outputs = sum(outputs for _, outputs in weights)
        group = ctypes.pointer(adapters.group) if adapters else None
        self.stack = Stack((Layer * len(layers))(*layers), len(layers), inputs, outputs, group)

    def forward(self, x_TI: Tensor, y_TO: Tensor, room: Room, onto_TO: Tensor | None = None) -> Tensor | None:
        """Fill `y_TO` with the outputs, added to `onto_TO` where it is given; returns A x, TR, in `room`."""
        return self._product(x_TI, False, room, y_TO, onto_TO)

    def backward(self, dy_TO: Tensor, dx_TI: Tensor, room: Room) -> Tensor | None:
        """Fill `dx_TI` with the gradient of the inputs; returns that of A x, TR, in `room`."""
        return self._product(dy_TO, True, room, dx_TI)

    def gate(self, x_TI: Tensor, gu: Tensor, inner: Tensor, gelu: bool, room: Room) -> Tensor | None:
        """Of two layers, gate and up: `forward` to `gu`, and `Plain.gate` of that to `inner`."""
        return self._product(x_TI, False, room, gu, gated=(inner, gelu))

    def gate_backward(self, dy_TO: Tensor, gu: Tensor, inner: Tensor, gelu: bool, room: Room) -> Tensor | None:
        """Of the layer behind gate and up: `backward`, and `Plain.gate_backward` with the gradient of its inputs."""
        return self._product(dy_TO, True, room, gu, gated=(inner, gelu))

    def _product(
        self,
        x: Tensor,
        back: bool,
        room: Room,
        y: Tensor,
        onto: Tensor | None = None,
        gated: tuple[Tensor | None, bool] = (None, False),
    ) -> Tensor | None:
        inner, gelu = gated
        count = x.shape[0]
        between_TR = room.take(count, self.adapters.rank) if self.adapters else None
        places = (None if tensor is None else tensor.data_ptr() for tensor in (x, onto, between_TR, y, inner))
        onto_stride = 0 if onto is None else onto.stride(0)
        rows = Rows(*places, x.stride(0), onto_stride, y.stride(0), count, gelu)
        self.library.frozen_product(ctypes.byref(self.stack), back, ctypes.byref(rows))
        return between_TR


def _at(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
