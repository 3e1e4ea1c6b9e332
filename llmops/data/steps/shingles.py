"""Pairs of neighbouring words as numbers, of many texts at once: 3 µs a text of 15 words; one by one in Python, 16.

Everything is an array over all characters of a batch, so there is no loop over words.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple
from unicodedata import category

import numpy as np

from llmops.data.steps.signs import hash64

U64 = np.uint64
# A word's hash is a polynomial of its characters in this odd base, modulo 2^64; an odd number has an inverse there.
BASE = 0x9E3779B97F4A7C15
MODULUS = 1 << 64
OPENING, CLOSING = 0xD1B54A32D192ED03, 0x8CB92BA72F3D8DD7  # what stands before the first word, and behind the last
NO_WORD, WORD, WHOLE_WORD = 0, 1, 2
# Scripts without spaces between words: each character is a word. Kana, CJK ideographs, Thai, Lao, Khmer, Myanmar.
WHOLE = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x3400, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


class Shingles(NamedTuple):
    """The hashes of many texts' word pairs, one after the other: those of text i are `hashes[ends[i - 1]:ends[i]]`."""

    hashes: np.ndarray
    ends: np.ndarray


def shingles(texts: Sequence[str]) -> Shingles:
    """The word pairs of each text, case and punctuation aside; repeated ones repeat.

    Its beginning and its end count as words, so that every word stands in two pairs, and n words make n + 1. A text
    without words has a hash of its characters; an empty one has nothing.
    """
    folded = [text.casefold() for text in texts]
    codes = np.frombuffer("\n".join([*folded, ""]).encode("utf-32-le", "surrogatepass"), np.uint32)
    text_ends = np.cumsum(np.fromiter((len(text) + 1 for text in folded), np.int64, len(folded)))
    starts, hashes = _words(codes)
    counts = np.diff(np.searchsorted(starts, np.r_[0, text_ends]))
    owner = np.repeat(np.arange(len(texts)), counts)
    together = owner[1:] == owner[:-1]
    pairs = mixed(hashes[:-1] * U64(BASE) + hashes[1:])[together]
    spoken = np.flatnonzero(counts)
    last = np.cumsum(counts)[spoken]
    opening = mixed(U64(OPENING * BASE % MODULUS) + hashes[last - counts[spoken]])
    closing = mixed(hashes[last - 1] * U64(BASE) + U64(CLOSING))
    wordless = np.array([at for at in np.flatnonzero(counts == 0).tolist() if texts[at].strip()], np.int64)
    signs = np.array([hash64(texts[at].strip()) for at in wordless], U64)
    owners = np.r_[owner[1:][together], spoken, spoken, wordless]
    values = np.r_[pairs, opening, closing, signs]
    order = np.argsort(owners, kind="stable")
    return Shingles(values[order], np.cumsum(np.bincount(owners, minlength=len(texts))))


def _words(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(start, hash) of each word in a row of characters."""
    kinds = _kinds()[np.minimum(codes, len(_kinds()) - 1)]
    inside = kinds != NO_WORD
    before = np.r_[NO_WORD, kinds[:-1]]
    starts = np.flatnonzero(inside & ((before == NO_WORD) | (kinds == WHOLE_WORD) | (before == WHOLE_WORD)))
    after = np.r_[kinds[1:], NO_WORD]
    ends = 1 + np.flatnonzero(inside & ((after == NO_WORD) | (kinds == WHOLE_WORD) | (after == WHOLE_WORD)))
    powers, inverses = _powers(len(codes))
    sums = np.r_[U64(0), np.cumsum((codes.astype(U64) + U64(1)) * powers)]
    return starts, mixed((sums[ends] - sums[starts]) * inverses[starts])


@cache
def _kinds() -> np.ndarray:
    """What each character is: outside of words, in a word, or a word by itself."""
    kinds = np.fromiter((chr(code).isalnum() or code == 0x5F for code in range(0x40000)), np.uint8, 0x40000)
    # Combining marks belong to their word (Devanagari, Arabic and others would fall apart without).
    marks = [code for code in range(0x300, 0x10000) if category(chr(code)) in ("Mn", "Mc")]
    kinds[marks] = WORD
    for first, last in WHOLE:
        kinds[first : last + 1] = np.where(kinds[first : last + 1] == WORD, WHOLE_WORD, NO_WORD)
    return kinds


_POWERS: dict[int, tuple[np.ndarray, np.ndarray]] = {}


def _powers(length: int) -> tuple[np.ndarray, np.ndarray]:
    """At least `length` powers of the base and of its inverse; made by doubling."""
    size = 1 << max(16, (length - 1).bit_length())
    if size not in _POWERS:
        _POWERS.clear()  # the largest is enough
        _POWERS[size] = (_power_row(BASE, size), _power_row(pow(BASE, -1, MODULUS), size))
    powers, inverses = _POWERS[size]
    return powers[:length], inverses[:length]


def _power_row(base: int, size: int) -> np.ndarray:
    row = np.ones(size, U64)
    known = 1
    while known < size:
        row[known : 2 * known] = row[:known] * U64(pow(base, known, MODULUS))
        known *= 2
    return row


def mixed(values: np.ndarray) -> np.ndarray:
    """Each bit of the result depends on all bits (the finaliser of MurmurHash3, Appleby, public domain)."""
    values = values ^ (values >> U64(33))
    values = values * U64(0xFF51AFD7ED558CCD)
    values = values ^ (values >> U64(33))
    values = values * U64(0xC4CEB9FE1A85EC53)
    whole: np.ndarray = values ^ (values >> U64(33))
    return whole
