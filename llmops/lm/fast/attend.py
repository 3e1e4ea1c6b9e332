"""`Direct`: attention of a pack in C, where the processor multiplies bfloat16 in pairs (`attend.c`).

`Once` does the forward pass alone, in float32 on any processor (`once.c`).
Of a layer nothing is kept but q, k and v themselves and one number a query and head: the backward pass computes the
shares again, which costs a seventh more products and saves a quarter of what a layer keeps. What the threads work in is
made once a pack.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from llmops.lm.fast.attention import Heads
from llmops.lm.fast.plain import Turn
from llmops.lm.fast.spans import blocks_of

LANE = 16  # heads are a multiple of it


@dataclass(frozen=True)
class Places:
    """The blocks of a pack (`spans.py`) one behind the other, the largest first; all int64."""

    places: Tensor  # of the keys of each block, its queries last
    starts: Tensor  # where each block begins, and the end
    queries: Tensor  # how many of each block's keys are queries
    order: Tensor  # the entries of `places`, sorted by place
    offsets: Tensor  # where in `order` the entries of each place of the pack begin, and the end

    @cached_property
    def most_keys(self) -> int:
        """Of one block."""
        return int(self.starts.diff().max())

    @cached_property
    def shared(self) -> bool:
        """Whether any place is a key of several blocks, or of none."""
        return bool((self.offsets.diff() != 1).any())

    @cached_property
    def rooms(self) -> dict[str, Tensor]:
        """Memory that all layers use in turn, by what it is for."""
        return {}

    def room(self, use: str, count: int, dtype: torch.dtype) -> Tensor:
        """So many numbers at least, as they were left."""
        if use not in self.rooms or len(self.rooms[use]) < count:
            self.rooms[use] = torch.empty(count, dtype=dtype)
        return self.rooms[use]


def places_of(paths: Sequence[Sequence[int]], tokens: int, known: int) -> Places:
    """The layout of a pack of so many tokens, the first `known` of which were gone through before."""
    blocks = sorted(blocks_of(paths, known), key=lambda block: -len(block[0]) * len(block[1]))
    places = np.concatenate([np.asarray(keys, np.int64) for _, keys in blocks])
    starts = np.cumsum([0, *(len(keys) for _, keys in blocks)])
    offsets = np.concatenate([[0], np.cumsum(np.bincount(places, minlength=tokens))])
    counts = np.array([len(queries) for queries, _ in blocks])
    found = (places, starts, counts, np.argsort(places, kind="stable"), offsets)
    return Places(*(torch.from_numpy(part.astype(np.int64)) for part in found))


class Look(ctypes.Structure):
    """`Look` of `attend.c`."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("qkv", "places", "starts", "counts", "cos", "sin")),
        ("scale", ctypes.c_float),
        *((name, ctypes.c_long) for name in ("window", "blocks", "heads", "groups", "size")),
        ("scratch", ctypes.c_void_p),
        ("scratch_bytes", ctypes.c_long),
    )


@dataclass(frozen=True)
class Seen:
    """What the way back needs: q, k and v, what was mixed, and the log of each query's sum (T H, float32, octaves)."""

    qkv: Tensor
    mixed: Tensor
    totals: Tensor


@dataclass(frozen=True)
class Direct:
    """How the tokens of a pack look at each other in the layers of one kind: as `Attention`, in C."""

    library: Any
    heads: Heads
    places: Places
    turn: Turn
    window: int
    bytes_by: ClassVar[str] = "attend_bytes"

    def forward(self, qkv: Tensor, out: Tensor) -> Seen | None:
        """Fill `out` (T, H E) with the mixed values; returns what `backward` needs."""
        totals = torch.empty(len(qkv), self.heads.queries, dtype=torch.float32)
        self.library.attend(self._look(qkv), _at(out), _at(totals))
        return Seen(qkv, out, totals)

    def backward(self, seen: Seen, dout: Tensor, dqkv: Tensor) -> None:
        """Fill `dqkv`, the gradient of the stacked q, k and v (T, (H + 2 G) E), from that of the mixed values."""
        look, offsets = self._look(seen.qkv), self.places.offsets
        count = len(self.places.places) * self.heads.keys * self.heads.size
        dk, dv = (self.places.room(name, count, torch.float32) for name in ("keys", "values"))
        self.library.attend_backward(look, *map(_at, (seen.mixed, seen.totals, dout, offsets, dqkv, dk, dv)))
        if self.places.shared:
            tensors = map(_at, (dk, dv, self.places.order, offsets, dqkv))
            self.library.settle_keys(look, *tensors, ctypes.c_long(len(dqkv)))

    def _look(self, qkv: Tensor) -> Any:
        """The arguments of a call. How many threads there are may change from one to the next."""
        need = getattr(self.library, self.bytes_by)(*map(ctypes.c_long, (self.places.most_keys, self.heads.size)))
        scratch = self.places.room("scratch", need, torch.uint8)
        self.look.qkv, self.look.scratch, self.look.scratch_bytes = qkv.data_ptr(), scratch.data_ptr(), need
        return ctypes.byref(self.look)

    @cached_property
    def look(self) -> Look:
        """The same for every layer, but for what `_look` fills in."""
        heads, places = self.heads, self.places
        tensors = (places.places, places.starts, places.queries, self.turn.cos, self.turn.sin)
        counts = (len(places.queries), heads.queries, heads.keys, heads.size)
        return Look(None, *map(_at, tensors), heads.scale, self.window, *counts)


class Once(Direct):
    """The same where no backward pass comes."""

    bytes_by = "once_bytes"

    def forward(self, qkv: Tensor, out: Tensor) -> None:
        """Fill `out` (T, H E) with the mixed values."""
        self.library.attend_once(self._look(qkv), _at(out))


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
