"""The Jaccard index of many pairs of sets at once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from llmops.data.steps.signs import Signs, distinct

BATCH_ELEMENTS = 2**20
U64 = np.uint64


class Sets:
    """Sets of 32-bit numbers, `parts` for each row, chunk by chunk as they were signed; read where they are needed."""

    def __init__(self, signs: Signs, parts: int) -> None:
        self.signs, self.parts = signs, parts
        counts = signs.column("counts").astype(np.int64)
        self.counts = counts.reshape(-1, parts)
        rows = np.array([len(part["counts"]) // parts for part in signs.parts], np.int64)
        self.first_rows = np.r_[0, np.cumsum(rows)]

    def elements(self, rows: np.ndarray, part: int) -> tuple[np.ndarray, np.ndarray]:
        """(place in `rows`, element) of the sets of one part, without repeats, as place * 2^32 + element, sorted; and
        how many elements each set has."""
        chunk_of = np.searchsorted(self.first_rows, rows, side="right") - 1
        keys = []
        for chunk in distinct(chunk_of).tolist():
            places = np.flatnonzero(chunk_of == chunk)
            counts = self.counts[self.first_rows[chunk] : self.first_rows[chunk + 1]]
            ends = np.cumsum(counts).reshape(counts.shape)
            local = rows[places] - self.first_rows[chunk]
            lengths = counts[local, part]
            starts = ends[local, part] - lengths
            at = np.repeat(starts - np.r_[0, np.cumsum(lengths)[:-1]], lengths) + np.arange(lengths.sum())
            values = self.signs.parts[chunk]["pairs"][at].astype(U64)
            keys.append(np.repeat(places.astype(U64), lengths) << U64(32) | values)
        found = distinct(np.concatenate(keys)) if keys else np.empty(0, U64)
        return found, np.bincount((found >> U64(32)).astype(np.int64), minlength=len(rows))


def alike(sets: Sets, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The Jaccard index of each pair of rows: the smallest over their parts. Two empty parts are equal."""
    index = np.ones(len(first))
    sizes = np.cumsum(sets.counts[first].sum(1) + sets.counts[second].sum(1))
    cuts = np.searchsorted(sizes, np.arange(BATCH_ELEMENTS, sizes[-1] if len(sizes) else 0, BATCH_ELEMENTS))
    edges = np.unique(np.r_[0, cuts, len(first)])
    for start, end in pairwise(edges.tolist()):
        for part in range(sets.parts):
            ours, our_sizes = sets.elements(first[start:end], part)
            theirs, their_sizes = sets.elements(second[start:end], part)
            shared = np.intersect1d(ours, theirs, assume_unique=True)
            common = np.bincount((shared >> U64(32)).astype(np.int64), minlength=end - start)
            union = our_sizes + their_sizes - common
            index[start:end] = np.minimum(index[start:end], np.where(union > 0, common / np.maximum(union, 1), 1.0))
    return index
