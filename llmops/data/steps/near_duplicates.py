"""Rows that say nearly the same: MinHash finds candidates (Broder, 1997), the real Jaccard index decides.

Measured on 50,000 texts of 17 word pairs, 64 hashes: rensa 0.07 s for its signatures but 0.5 s to get them out of it,
datasketch 13 s, numpy over all rows at once 0.1 s. So it is numpy, and the words are hashed that way too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from llmops.core.cleaning import NearDuplicates
from llmops.data.mapping import Example
from llmops.data.steps.jaccard import Sets, alike
from llmops.data.steps.shingles import Shingles, shingles
from llmops.data.steps.signs import Signs, distinct, hash64, id_of_number, number_of_id

# 32 bands of 4 hashes: rows of Jaccard index 0.6 share a band with probability 0.988, of 0.3 with 0.23, of 0.05 with
# 0.0002.
BANDS, HASHES = 32, 4
# 128 permutations, drawn once and kept for ever (they are part of what "the same step" means).
MULTIPLIERS = np.random.default_rng(20261126).integers(1, 2**32, BANDS * HASHES, np.uint32) | np.uint32(1)
BATCH_CHARACTERS = 2**18  # arrays over all characters of a batch take about 50 bytes a character
PARTS = 2  # prompt, and reply: each must be nearly the same


def sign(step: NearDuplicates, rows: Sequence[Example]) -> dict[str, np.ndarray]:
    """For each row its id (8 bytes), 32 band keys (8 bytes each), and the word pairs of its parts (4 bytes each)."""
    found = [_shingles_of(batch) for batch in _batches(rows)] or [(np.empty(0, np.uint32), np.empty(0, np.int64))]
    hashes = np.concatenate([part[0] for part in found])
    counts = np.concatenate([part[1] for part in found])
    ends = np.cumsum(counts)
    row_starts = np.r_[0, ends[PARTS - 1 :: PARTS]][:-1]
    return {
        "id": np.array([number_of_id(row.id) for row in rows], np.uint64),
        "bands": _bands(hashes, row_starts, len(rows)),
        "counts": counts.astype(np.uint32),
        "pairs": hashes,
    }


def _batches(rows: Sequence[Example]) -> Iterator[list[Example]]:
    batch: list[Example] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row.text) + sum(len(text) for _, text in row.turns)
        if size > BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _shingles_of(rows: Sequence[Example]) -> tuple[np.ndarray, np.ndarray]:
    """The word pairs of each row's parts, and how many each part has. Rows of different labels have none in common."""
    texts = [part for row in rows for part in parts_of(row)]
    found: Shingles = shingles(texts)
    counts = np.diff(np.r_[0, found.ends])
    kinds = np.array([hash64(f"{row.label} {row.liked}") for row in rows for _ in range(PARTS)], np.uint64)
    kinds[1::2] ^= np.uint64(0x9E3779B97F4A7C15)  # a word of the reply is not the same as one of the prompt
    mixed = (found.hashes ^ np.repeat(kinds, counts)) * np.uint64(0xFF51AFD7ED558CCD)
    return (mixed >> np.uint64(32)).astype(np.uint32), counts


def parts_of(row: Example) -> tuple[str, str]:
    """What is compared: what was asked, and what was replied. A labelled row and a running text have no reply."""
    if row.label is not None or not row.turns:
        return row.text, ""
    return row.text, f"{row.turns[-1][1]}\n{row.rejected or ''}"


def _bands(hashes: np.ndarray, row_starts: np.ndarray, rows: int) -> np.ndarray:
    """Band keys of rows, (BANDS, rows); 0 for a row without words."""
    keys = np.zeros((BANDS, rows), np.uint64)
    filled = np.diff(np.r_[row_starts, len(hashes)]) > 0
    for band in range(BANDS) if filled.any() else ():
        keys[band, filled] = band_keys(hashes, row_starts[filled], band)
    return keys


def band_keys(hashes: np.ndarray, row_starts: np.ndarray, band: int) -> np.ndarray:
    """One band's key of each row: the smallest of the row's hashes under four permutations. No row may be empty."""
    keys = np.zeros(len(row_starts), np.uint64)
    for multiplier in MULTIPLIERS[band * HASHES : (band + 1) * HASHES]:
        smallest = np.minimum.reduceat(hashes * multiplier, row_starts).astype(np.uint64)
        keys = (keys ^ smallest) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    return keys


def decide(step: NearDuplicates, signs: Signs, spared: Collection[int]) -> Iterator[tuple[int, str]]:
    """(place, reason) of every row that goes: each is nearly the same as a row that stays, and the reason names it.

    Rows are ranked by id, those in `spared` first: who stays does not depend on their order. Memory: about 100 bytes a
    row, for one band after the other.
    """
    ids = signs.column("id")
    kept = np.isin(ids, np.fromiter(spared, np.uint64, len(spared)))
    order = np.lexsort((ids, ~kept))
    rank = np.empty(len(ids), np.int64)
    rank[order] = np.arange(len(ids))
    sets = Sets(signs, PARTS)
    near, index = np.empty(0, np.uint64), np.empty(0)
    for band in range(BANDS):
        pairs = np.setdiff1d(_candidates(signs.slice("bands", band)[order], order), near, assume_unique=True)
        found = alike(sets, *_rows(pairs))
        close = found >= step.alike
        near, index = np.r_[near, pairs[close]], np.r_[index, found[close]]
    first, second = _rows(near)
    gone: dict[int, tuple[int, float]] = {}
    for at in np.lexsort((rank[first], rank[second])):  # in the order of rank, so that what is kept is settled
        one, other = int(first[at]), int(second[at])
        if one not in gone and other not in gone and not kept[other]:
            gone[other] = one, float(index[at])
    for place, (one, share) in sorted(gone.items()):
        yield place, f"near duplicate: {share:.0%} alike with {id_of_number(int(ids[one]))}"


def _rows(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(first, second) row of each pair: a pair is first * 2^32 + second."""
    return (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _candidates(keys: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Pairs worth a look, the row of smaller rank first; `keys` in the order of rank.

    In each bucket every row is looked at with the bucket's first row and with the one before it, so that a bucket
    costs two looks a row, however large it is.
    """
    by_key = np.argsort(keys, kind="stable")
    keys, rows = keys[by_key], order[by_key]
    opens = np.r_[True, keys[1:] != keys[:-1]] | (keys == 0)  # no key: a row without words
    leaders = rows[np.maximum.accumulate(np.where(opens, np.arange(len(rows)), 0))][~opens]
    before, second = rows[np.flatnonzero(~opens) - 1], rows[~opens]
    first = np.r_[leaders, before].astype(np.uint64)
    return distinct(first << np.uint64(32) | np.r_[second, second].astype(np.uint64))
