"""Which rows of two sets say the same: a join of texts by words, exact for the likeness it promises.

Two texts are `near` where the words they share weigh at least `near` of the words of both (weighted Jaccard; a word
weighs its inverse document frequency, so that sharing "the" means little). Pairs are found by prefix filtering: words
are ordered from rare to common, and a pair above the bound must share one of the words that make up the rarest
`1 - near` of each text's weight (Chaudhuri, Ganti and Kaushik, ICDE 2006; Bayardo, Ma and Srikant, WWW 2007). Of a
long text only the `RAREST` of these are looked up. Axes: N left rows, M right rows, W words, P pairs.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmops.data.sketch import sketched

# Han, kana and hangul are written without spaces: each sign counts as a word there.
SIGN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af"
WORD = re.compile(rf"[{SIGN}]|[^\W{SIGN}]+")
GRAM = 13  # words in a row that no two people write by chance (Brown et al., arXiv:2005.14165, appendix C)
COMMON_GRAM_ROWS = 10  # a run of words in more rows than this is boilerplate, not a leak (same place)
FEWEST_WORDS = 5  # below this, one word changed is a fifth of the text: only equal texts are the same
# 5,000 against 1,248 conversations of 408 words: 4.7 s without this limit, 0.02 s with it, the same pairs found.
RAREST = 12
PAIRS_AT_A_TIME = 500_000
# Rows on the left times rows on the right: beyond, candidates come by MinHash (`sketch.py`), which is linear.
MOST_EXACT = 2**33


def words_of(text: str) -> list[str]:
    """The words of a text without case, punctuation and compatibility forms; the text itself where it has none."""
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold()) or [" ".join(text.split())]


@dataclass(frozen=True)
class Pairs:
    """P pairs: row numbers on the left and on the right, and how much they are alike (0 to 1)."""

    left_P: np.ndarray
    right_P: np.ndarray
    alike_P: np.ndarray

    @classmethod
    def of(cls, pairs: Sequence[tuple[int, int]]) -> Pairs:
        """Pairs that are equal in what matters."""
        both_P = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        return cls(both_P[:, 0], both_P[:, 1], np.ones(len(both_P)))

    def where(self, kept_P: np.ndarray) -> Pairs:
        """The pairs that a mask, or an order, names."""
        return Pairs(self.left_P[kept_P], self.right_P[kept_P], self.alike_P[kept_P])

    def closest_first(self) -> Pairs:
        """The same pairs, the most alike first; equal ones by row."""
        return self.where(np.lexsort((self.right_P, self.left_P, -self.alike_P)))


class Overlap:
    """Two sets of texts, cut into words once."""

    def __init__(self, left: Iterable[str], right: Iterable[str]) -> None:
        numbers: dict[str, int] = {}
        self.left = Side.of(left, numbers)
        self.right = Side.of(right, numbers)
        self.words = len(numbers)

    def normalised(self) -> Pairs:
        """Pairs with the same words in the same order."""
        signs = _signs(self.words, 1)[0]
        hashes = [side.whole_hashes(signs) for side in (self.left, self.right)]
        left_P, right_P = _join(*hashes)
        return Pairs(left_P, right_P, np.ones(len(left_P)))

    def grams(self) -> Pairs:
        """Pairs that share `GRAM` words in a row; likeness is the share of the right row's runs that are shared."""
        signs = _signs(self.words, GRAM)
        (left_hash, left_row), (right_hash, right_row) = (side.gram_hashes(signs) for side in (self.left, self.right))
        left_hash, left_row = _not_common(left_hash, left_row)
        left_at, right_at = _join(left_hash, right_hash)
        keys, shared_P = np.unique(left_row[left_at] * len(self.right.starts) + right_row[right_at], return_counts=True)
        left_P, right_P = np.divmod(keys, len(self.right.starts))
        runs_M = np.bincount(right_row, minlength=len(self.right.starts))
        return Pairs(left_P, right_P, np.minimum(1.0, shared_P / np.maximum(1, runs_M[right_P])))

    def near(self, bound: float) -> Pairs:
        """Pairs whose weighted Jaccard is at least `bound`."""
        left_NW, right_MW = self.left.matrix(self.words), self.right.matrix(self.words)
        rows_W = np.asarray(left_NW.sum(axis=0) + right_MW.sum(axis=0)).ravel()
        weight_W = np.log1p((left_NW.shape[0] + right_MW.shape[0]) / np.maximum(1, rows_W))
        if left_NW.shape[0] * right_MW.shape[0] <= MOST_EXACT:
            met = _candidates(_prefix(left_NW, weight_W, bound), _prefix(right_MW, weight_W, bound))
        else:
            sides = ((self.left.words, self.left.lengths), (self.right.words, self.right.lengths))
            met = sketched(sides, FEWEST_WORDS)
        found = [_alike(left_NW, right_MW, weight_W, pairs, bound) for pairs in met]
        parts = [np.concatenate([part[axis] for part in found]) for axis in range(3)] if found else [np.zeros(0)] * 3
        _, once = np.unique(parts[0] * self.right.starts.size + parts[1], return_index=True)
        return Pairs(parts[0].astype(np.int64), parts[1].astype(np.int64), parts[2]).where(once)


@dataclass(frozen=True)
class Side:
    """Texts as word numbers in one flat array; row r is `words[starts[r] : starts[r] + lengths[r]]`."""

    words: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, texts: Iterable[str], numbers: dict[str, int]) -> Side:
        """`numbers` gives each word its number, and learns new ones. Keeps 4 bytes a word, and no text."""
        flat, counted = array("i"), array("i")
        for text in texts:
            found = words_of(text)
            counted.append(len(found))
            flat.extend(numbers.setdefault(word, len(numbers)) for word in found)
        lengths = np.array(counted, dtype=np.int64)
        return cls(np.array(flat, dtype=np.int32), np.cumsum(lengths) - lengths, lengths)

    def whole_hashes(self, signs_W: np.ndarray) -> np.ndarray:
        """One number a row that follows from its words and their order."""
        place = np.arange(len(self.words)) - np.repeat(self.starts, self.lengths)
        mixed = signs_W[self.words] * (2 * place.astype(np.uint64) + 1)
        mixed ^= mixed >> np.uint64(29)
        sums = np.concatenate([[np.uint64(0)], np.cumsum(mixed * np.uint64(0x9E3779B97F4A7C15), dtype=np.uint64)])
        whole: np.ndarray = sums[self.starts + self.lengths] - sums[self.starts]
        return whole

    def gram_hashes(self, signs_GW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(one number for each different run of `GRAM` words of a row, the row it stands in)."""
        runs = max(0, len(self.words) - GRAM + 1)
        hashes = np.zeros(runs, dtype=np.uint64)
        for offset in range(GRAM):
            hashes += signs_GW[offset][self.words[offset : offset + runs]]
        row = np.repeat(np.arange(len(self.starts)), self.lengths)[:runs]
        whole = np.arange(runs) + GRAM <= (self.starts + self.lengths)[row]
        hashes, row = hashes[whole], row[whole]
        order = np.lexsort((hashes, row))
        hashes, row = hashes[order], row[order]
        fresh = np.ones(len(row), dtype=bool)
        fresh[1:] = (hashes[1:] != hashes[:-1]) | (row[1:] != row[:-1])
        return hashes[fresh], row[fresh]

    def matrix(self, words: int) -> Any:
        """Which row holds which word, once: sparse 0 and 1, rows by `words`."""
        from scipy.sparse import csr_matrix

        ones = np.ones(len(self.words), dtype=np.float32)
        ends = np.concatenate([[0], np.cumsum(self.lengths)])
        # A copy: scipy sorts the words of a row where they lie.
        made = csr_matrix((ones, self.words.copy(), ends), shape=(len(self.starts), words))
        made.sum_duplicates()
        made.data[:] = 1.0
        return made


def _signs(words: int, places: int) -> np.ndarray:
    """A random 64-bit number for each word at each place: two different runs share a sum once in 2**64."""
    drawn = np.random.default_rng(GRAM).integers(0, 2**64, (places, max(1, words)), dtype=np.uint64)
    return drawn | np.uint64(1) if places == 1 else drawn


def _join(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places (left, right) of every pair of equal numbers."""
    order = np.argsort(left, kind="stable")
    first = np.searchsorted(left[order], right, "left")
    many = np.searchsorted(left[order], right, "right") - first
    right_at = np.repeat(np.arange(len(right)), many)
    offset = np.arange(len(right_at)) - np.repeat(np.cumsum(many) - many, many)
    return order[np.repeat(first, many) + offset], right_at


def _not_common(hashes: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Without the runs of words that stand in more than `COMMON_GRAM_ROWS` rows."""
    _, which, rows = np.unique(hashes, return_inverse=True, return_counts=True)
    rare = rows[which] <= COMMON_GRAM_ROWS if len(hashes) else np.zeros(0, dtype=bool)
    return hashes[rare], row[rare]


def _prefix(matrix: Any, weight_W: np.ndarray, bound: float) -> Any:
    """`matrix` with only the rarest words of each row: those before the last `bound` of its weight."""
    from scipy.sparse import csr_matrix

    lengths = np.diff(matrix.indptr)
    row = np.repeat(np.arange(matrix.shape[0]), lengths)
    order = np.lexsort((matrix.indices, -weight_W[matrix.indices], row))
    words = matrix.indices[order]
    weights = weight_W[words]
    before = np.cumsum(weights) - weights
    before -= np.repeat(before[matrix.indptr[:-1][lengths > 0]], lengths[lengths > 0])
    total = np.bincount(row, weights=weights, minlength=matrix.shape[0])
    # What remains from this word on could still reach the bound, so the word belongs to the prefix.
    place = np.arange(len(row)) - np.repeat(matrix.indptr[:-1], lengths)
    kept = (total[row] - before >= bound * total[row] - 1e-9) & (place < RAREST) & (lengths[row] >= FEWEST_WORDS)
    ones = np.ones(int(kept.sum()))
    return csr_matrix((ones, (row[kept], words[kept])), shape=matrix.shape)


def _candidates(left: Any, right: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs whose prefixes share a word, some right rows at a time so that memory stays bounded."""
    rows_W = np.asarray(left.sum(axis=0)).ravel()
    pairs_M = np.concatenate([[0], np.cumsum(right @ rows_W)])
    start = 0
    while start < right.shape[0]:
        end = int(np.searchsorted(pairs_M, pairs_M[start] + PAIRS_AT_A_TIME, "right")) - 1
        end = min(right.shape[0], max(start + 1, end))
        met = (right[start:end] @ left.T).tocoo()
        if met.nnz:
            yield met.col.astype(np.int64), met.row.astype(np.int64) + start
        start = end


def _alike(
    left: Any, right: Any, weight_W: np.ndarray, pairs: tuple[np.ndarray, np.ndarray], bound: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Those of `pairs` whose weighted Jaccard reaches the bound, with it."""
    left_P, right_P = pairs
    total_N, total_M = left @ weight_W, right @ weight_W
    # The lighter text can share no more than it weighs: most pairs go here, before any words are compared.
    light, heavy = np.minimum(total_N[left_P], total_M[right_P]), np.maximum(total_N[left_P], total_M[right_P])
    possible = light >= bound * heavy
    left_P, right_P = left_P[possible], right_P[possible]
    shared_P = left[left_P].multiply(right[right_P]) @ weight_W
    alike_P = shared_P / (total_N[left_P] + total_M[right_P] - shared_P)
    close = alike_P >= bound
    return left_P[close], right_P[close], alike_P[close]
