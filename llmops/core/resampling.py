"""Drawing rows, or groups of rows, again: what every bootstrap here has in common. N rows, G groups, R resamples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

COUNTED_AT_A_TIME = 2**20  # numbers of times a row is drawn: 8 MiB


def drawn(n: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of n rows is drawn in each of `resamples` samples of n, RN, some samples at a time.

    A product with these counts is a resampled sum, and one product serves many columns.
    """
    random = np.random.default_rng(seed)
    at_a_time = max(1, COUNTED_AT_A_TIME // n)
    for start in range(0, resamples, at_a_time):
        some = min(at_a_time, resamples - start)
        places_RN = random.integers(0, n, (some, n)) + n * np.arange(some)[:, None]
        yield np.bincount(places_RN.ravel(), minlength=some * n).reshape(some, n).astype(np.float64)


def by_group(groups: Sequence[str], values_N: np.ndarray) -> np.ndarray:
    """The sums over each group, G, in the order of their names; of rows of several columns, column by column."""
    _, places_N = np.unique(np.asarray(groups), return_inverse=True)
    sums_G = np.zeros((int(places_N.max()) + 1, *values_N.shape[1:]))
    np.add.at(sums_G, places_N, values_N)
    return sums_G
