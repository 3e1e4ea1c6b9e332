"""`Room`: memory that every pack uses again, so that no pack pays for fresh pages and nothing is left in pieces.

A pack takes from the beginning and gives back all at once, or down to a mark. Pages that no pack has touched yet are
not in memory. Axes: T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

SPARE = 2  # times what the first pack needs: larger ones find room, and pay for fresh pages where they need more only
ALIGNED = 64  # bytes; a line of the cache, and the widest register


class Room:
    """A stack of tensors of one type in one piece of memory. What does not fit is allocated by itself.

    What was taken before at the same place is the same tensor: to make one takes its time, and from a desk all layers
    take alike.
    """

    def __init__(self, numbers: int, dtype: torch.dtype) -> None:
        self.memory, self.size = torch.empty(numbers, dtype=dtype), numbers
        self.step = ALIGNED // self.memory.element_size()
        self.used = 0
        self.taken: dict[tuple[int, int, int], Tensor] = {}

    def take(self, rows: int, columns: int) -> Tensor:
        """A dense tensor, its numbers as they were left."""
        start, size = self.used, rows * columns
        if start + size > self.size:
            return torch.empty(rows, columns, dtype=self.memory.dtype)
        self.used += -(-size // self.step) * self.step
        found = self.taken.get((start, rows, columns))
        if found is None:
            found = self.taken[start, rows, columns] = self.memory.as_strided((rows, columns), (columns, 1), start)
        return found

    def back_to(self, mark: int) -> None:
        """Give back what was taken since `used` was `mark`."""
        self.used = mark


@dataclass
class Rooms:
    """Of one pack: `kept` from its forward to its backward pass, and a `desk` for what one layer needs at a time."""

    kept: Room
    desk: Room
    home: list[Rooms]

    def give_back(self) -> None:
        """To be lent again. Nobody may use what was taken from them any more."""
        for room in (self.kept, self.desk):
            room.back_to(0)
            room.taken.clear()
        self.home.append(self)


@dataclass
class Lender:
    """Lends rooms to packs, each to one at a time. A pack whose backward pass never comes takes its rooms with it."""

    dtype: torch.dtype
    free: list[Rooms] = field(default_factory=list)

    def lend(self, kept: int, desk: int) -> Rooms:
        """Rooms for so many numbers: those that were given back last, where they are large enough."""
        found = self.free.pop() if self.free else None
        if found and found.kept.size >= kept and found.desk.size >= desk:
            return found
        del found  # before the larger ones are there
        return Rooms(Room(SPARE * kept, self.dtype), Room(SPARE * desk, self.dtype), self.free)
