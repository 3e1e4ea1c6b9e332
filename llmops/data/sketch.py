"""Candidates for texts of two large sets that say nearly the same: those that share a band of MinHash, in linear time.

The exact join of `overlap.py` grows with the square of the rows where the vocabulary does not grow with them: 100,000
rows took 2 s, and 1,000,000 were not done after two minutes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from llmops.data.steps.near_duplicates import BANDS, band_keys
from llmops.data.steps.shingles import BASE, mixed

COMMON_ROWS = 50  # a band that more rows share than this is boilerplate


Arrays = tuple[np.ndarray, np.ndarray]


def sketched(sides: tuple[Arrays, Arrays], fewest: int) -> Iterator[Arrays]:
    """(left rows, right rows) of pairs worth a look, band by band, so that a pair may come again.

    A side is (word numbers in one flat array, number of words of each row). Rows of fewer than `fewest` words are
    left out. Of rows with a tenth of their words changed, 0.95 and more are met (`steps/near_duplicates.py`).
    """
    left, right = (_pairs_of_words(*side, fewest) for side in sides)
    for band in range(BANDS) if len(left[2]) and len(right[2]) else ():
        ours, theirs = (band_keys(hashes, starts, band) for hashes, starts, _ in (left, right))
        order = np.argsort(ours, kind="stable")
        first = np.searchsorted(ours[order], theirs, "left")
        many = np.searchsorted(ours[order], theirs, "right") - first
        many[many > COMMON_ROWS] = 0
        right_at = np.repeat(np.arange(len(theirs)), many)
        offset = np.arange(len(right_at)) - np.repeat(np.cumsum(many) - many, many)
        yield left[2][order[np.repeat(first, many) + offset]], right[2][right_at]


def _pairs_of_words(words: np.ndarray, lengths: np.ndarray, fewest: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(hashes of neighbouring words, where each row's begin, the rows' numbers), of rows with enough words."""
    rows = np.flatnonzero(lengths >= fewest)
    row_of = np.repeat(np.arange(len(lengths)), lengths)
    numbers = words.astype(np.uint64)
    hashes = (mixed(mixed(numbers[:-1]) * np.uint64(BASE) + mixed(numbers[1:])) >> np.uint64(32)).astype(np.uint32)
    enough = lengths >= fewest
    kept = (row_of[1:] == row_of[:-1]) & enough[row_of[1:]]
    return hashes[kept], np.r_[0, np.cumsum(lengths[rows] - 1)][:-1], rows
