"""Gains and how sure they are: rows are drawn again by group, R times, because rows of one group are not independent.

The share carried is a ratio of two gains. Its interval is that of the resampled ratio, which needs no symmetry, and is
only given where the gain it is a share of is above zero by its own interval.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmops.core.findings import Estimate
from llmops.evals.intervals import RESAMPLES, SEED


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


def share_of(part: float, part_R: np.ndarray, whole: float, whole_R: np.ndarray, n: int) -> Estimate | None:
    """part / whole; None where the whole is not above zero by its interval."""
    if whole <= 0 or np.quantile(whole_R, 0.025) <= 0:
        return None
    return estimate(part / whole, part_R / np.maximum(whole_R, 1e-9), n)
