"""Rows of different lengths into batches: similar lengths together, so that little is padding."""

from __future__ import annotations

import random
from collections.abc import Sequence

GROUP = 16  # batches that are sorted together: more saves padding, fewer keeps the order more random


def epoch_order(lengths: Sequence[int], batch_rows: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of one pass: every row once, shuffled by (seed, epoch), lengths grouped within `GROUP` batches."""
    rng = random.Random(f"{seed}/{epoch}")
    order = list(range(len(lengths)))
    rng.shuffle(order)
    batches: list[list[int]] = []
    for start in range(0, len(order), batch_rows * GROUP):
        group = sorted(order[start : start + batch_rows * GROUP], key=lambda index: lengths[index])
        batches += [group[place : place + batch_rows] for place in range(0, len(group), batch_rows)]
    rng.shuffle(batches)
    return batches
