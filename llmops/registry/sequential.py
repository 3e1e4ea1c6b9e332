"""Is one arm's share of thumbs up below another's? A test that may be looked at after every thumb, for ever.

The null is: p_a >= p_b. If it holds, some p lies between them (p_b <= p <= p_a), in some cell of a grid, so that
p_a >= low and p_b <= high of that cell. Against "p_a >= low" one bets with shares below `low`, against "p_b <= high"
with shares above `high`: each thumb multiplies a stake by q/p or (1-q)/(1-p), at most 1 on average whatever came before
(betting as in Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting", JRSS B 86(1)).
So the product of both stakes is a supermartingale in the true cell, and the least over all cells never above it.
By Ville's inequality it ever reaches 1/alpha with a chance of at most alpha: at every number of looks, for any order
of the arms, even where what came before decides which arm is asked.

N looks, K cells.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Nats = NDArray[np.float64]

# 0.85 was told from 0.95 after 694, 436 and 379 thumbs (median) with 50, 200 and 400 cells.
CELLS = 200
# The part of each stake that is never bet: what a cell far from the truth loses is bounded, and so is rounding.
KEPT = 0.1
LOOKS_AT_ONCE = 256


def first_crossing(ups_a_N: Counts, n_a_N: Counts, ups_b_N: Counts, n_b_N: Counts, alpha: float) -> int | None:
    """The first of N looks at which the evidence that a's share is below b's reaches 1/alpha; None if it never does.

    The counts are the thumbs up and all thumbs of each arm until that look. Looks whose likelihood ratio is too small
    are passed over: no stake can win more (of 600 looks at equal arms about 590).
    """
    need_nats = -float(np.log(alpha))
    able_N = np.flatnonzero(likelihood_ratio(ups_a_N, n_a_N, ups_b_N, n_b_N) >= need_nats)
    for start in range(0, len(able_N), LOOKS_AT_ONCE):
        some_N = able_N[start : start + LOOKS_AT_ONCE]
        reached_N = evidence(ups_a_N[some_N], n_a_N[some_N], ups_b_N[some_N], n_b_N[some_N]) >= need_nats
        if reached_N.any():
            return int(some_N[reached_N.argmax()])
    return None


def evidence(ups_a_N: Counts, n_a_N: Counts, ups_b_N: Counts, n_b_N: Counts) -> Nats:
    """Nats against "a's share is at least b's", N: after each look, from the thumbs up and all thumbs until then."""
    # b's share is at most p just where its share of thumbs down is at least 1 - p, and the grid is its own mirror.
    below_NK = _stakes(ups_a_N, n_a_N - ups_a_N)
    above_NK = _stakes(n_b_N - ups_b_N, ups_b_N)[:, ::-1]
    return np.asarray((below_NK + above_NK).min(axis=1))


def likelihood_ratio(ups_a_N: Counts, n_a_N: Counts, ups_b_N: Counts, n_b_N: Counts) -> Nats:
    """Nats by which two shares fit better than one, N; 0 where a's share is not below b's."""
    apart_N = _fit(ups_a_N, n_a_N) + _fit(ups_b_N, n_b_N) - _fit(ups_a_N + ups_b_N, n_a_N + n_b_N)
    return np.where(ups_a_N * n_b_N < ups_b_N * n_a_N, apart_N, 0.0)


def _fit(ups_N: Counts, n_N: Counts) -> Nats:
    """The log-likelihood of the share that fits best."""
    share_N = ups_N / np.maximum(n_N, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ups_fit_N, downs_fit_N = ups_N * np.log(share_N), (n_N - ups_N) * np.log1p(-share_N)
    found_N: Nats = np.nan_to_num(ups_fit_N) + np.nan_to_num(downs_fit_N)  # 0 log 0 is 0
    return found_N


def _stakes(ups_N: Counts, downs_N: Counts) -> Nats:
    """Nats won against "the share is at least the low edge", N x K: the mean stake of bets on each cell below."""
    edges_K, middles_K = _grid()
    with np.errstate(divide="ignore"):
        bets_NK = ups_N[:, None] * np.log(middles_K) + downs_N[:, None] * np.log1p(-middles_K)
        most_N1 = bets_NK.max(axis=1, keepdims=True)
        sums_NK = np.log(np.exp(bets_NK - most_N1).cumsum(axis=1)[:, :-1]) + most_N1
    null_NK = ups_N[:, None] * np.log(edges_K) + downs_N[:, None] * np.log1p(-edges_K)
    won_NK = sums_NK - np.log(np.arange(1, CELLS)) - null_NK
    kept_NK = np.logaddexp(np.log(KEPT), np.log(1 - KEPT) + won_NK)
    return np.concatenate([np.zeros((len(ups_N), 1)), kept_NK], axis=1)  # nothing lies below the first cell: no bet


@lru_cache(maxsize=1)
def _grid() -> tuple[Nats, Nats]:
    """(inner edges, K - 1; middles, K): closer near 0 and 1, where a share is known better from as many thumbs."""
    ends = np.sin(np.linspace(0.0, np.pi / 2, 2 * CELLS + 1)) ** 2
    return ends[2:-1:2], ends[1::2]
