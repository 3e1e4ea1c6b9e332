"""Paired differences and shares of gains. N rows in G groups, drawn again R times: rows of a group hang together.

Each row is compared with itself, by another model or in another form, so what it owes to its own difficulty cancels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmops.core.findings import Estimate
from llmops.evals.intervals import RESAMPLES, SEED, Z95, wilson


def draws(values_N: np.ndarray, weights_N: np.ndarray, groups: Sequence[str], seed: int = SEED) -> np.ndarray:
    """R resampled values of sum(weight * value) / sum(weight), whole groups drawn again."""
    names = {name: place for place, name in enumerate(dict.fromkeys(groups))}
    place_N = np.array([names[name] for name in groups])
    total_G = np.bincount(place_N, weights_N * values_N, minlength=len(names))
    weight_G = np.bincount(place_N, weights_N, minlength=len(names))
    chosen_RG = np.random.default_rng(seed).integers(0, len(names), (RESAMPLES, len(names)))
    resampled_R: np.ndarray = total_G[chosen_RG].sum(axis=1) / weight_G[chosen_RG].sum(axis=1)
    return resampled_R


def mean(values_N: np.ndarray, weights_N: np.ndarray) -> float:
    """sum(weight * value) / sum(weight)."""
    return float((values_N * weights_N).sum() / weights_N.sum())


def estimate(value: float, draws_R: np.ndarray, n: int) -> Estimate:
    """A value with the middle 95 % of its draws."""
    low, high = np.quantile(draws_R, [0.025, 0.975])
    return Estimate(
        value=round(value, 5), low=round(min(float(low), value), 5), high=round(max(float(high), value), 5), n=n
    )


def weighed(values_N: np.ndarray, weights_N: np.ndarray, groups: Sequence[str], seed: int = SEED) -> Estimate:
    """The weighted mean with its interval."""
    return estimate(mean(values_N, weights_N), draws(values_N, weights_N, groups, seed), len(values_N))


def changed_share(before_N: np.ndarray, after_N: np.ndarray) -> Estimate:
    """The change of a share, from 0 or 1 before to 0 or 1 after, with the interval of Bonett and Price (2012).

    (Journal of Educational and Behavioral Statistics 37:479.) One row more is counted to have changed each way, so that
    a few rows without a change do not pass for certainty, as they would where rows are drawn again.
    """
    n = len(before_N)
    up, down = float(((after_N - before_N) > 0).sum()), float(((after_N - before_N) < 0).sum())
    more, fewer = (up + 1) / (n + 2), (down + 1) / (n + 2)
    reach = Z95 * ((more + fewer - (more - fewer) ** 2) / (n + 2)) ** 0.5
    value = (up - down) / n
    low, high = max(-1.0, more - fewer - reach), min(1.0, more - fewer + reach)
    return Estimate(value=round(value, 5), low=round(min(low, value), 5), high=round(max(high, value), 5), n=n)


def change(before_N: np.ndarray, after_N: np.ndarray, weights_N: np.ndarray, groups: Sequence[str]) -> Estimate:
    """The weighted mean of after - before: of shares by `changed_share`, of other marks by drawing groups again.

    Shares of rows that hang together are drawn again, too; where none changed there is no spread to draw, and every
    group counts as one row.
    """
    independent = len(set(groups))
    if set(np.unique([before_N, after_N])) <= {0.0, 1.0}:
        if independent == len(groups):
            return changed_share(before_N, after_N)
        if np.array_equal(before_N, after_N):
            return changed_share(before_N[:independent], after_N[:independent])
    return weighed(after_N - before_N, weights_N, groups)


def share_of(part: float, part_R: np.ndarray, whole: float, whole_R: np.ndarray, n: int) -> Estimate | None:
    """part / whole; None where the whole is not above zero by its interval. The interval need not be symmetric."""
    if whole <= 0 or np.quantile(whole_R, 0.025) <= 0:
        return None
    return estimate(part / whole, part_R / np.maximum(whole_R, 1e-9), n)


def more_in(one_N: np.ndarray, other_M: np.ndarray, groups: tuple[Sequence[str], Sequence[str]]) -> Estimate:
    """The share of ones in `one_N` less that in `other_M`, two sets of rows: Newcombe's hybrid score interval.

    (Statistics in Medicine 17:873, 1998, method 10.) Where rows share a group, by drawing groups again; where there is
    no one on either side, there is no spread to draw, and every group counts as one row.
    """
    one, other = float(one_N.mean()), float(other_M.mean())
    value, (n, m) = one - other, (len(set(some)) for some in groups)
    if (n, m) != (len(one_N), len(other_M)) and (one or other):
        drawn_R = draws(one_N, np.ones(len(one_N)), groups[0]) - draws(
            other_M, np.ones(len(other_M)), groups[1], SEED + 1
        )
        return estimate(value, drawn_R, len(one_N))
    (low_1, high_1), (low_2, high_2) = wilson(one * n, n), wilson(other * m, m)
    low = value - ((one - low_1) ** 2 + (high_2 - other) ** 2) ** 0.5
    high = value + ((high_1 - one) ** 2 + (other - low_2) ** 2) ** 0.5
    return Estimate(value=round(value, 5), low=round(low, 5), high=round(high, 5), n=len(one_N))
