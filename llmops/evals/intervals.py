"""Intervals of 95 %. N rows, R resamples, K labels, P predicted classes (the labels, and one for no answer)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Z95 = 1.959963984540054
RESAMPLES = 2000
SEED = 20261123
DRAWN_AT_A_TIME = 2**20  # row numbers: 8 MiB


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Wilson's score interval of a share (Journal of the American Statistical Association 22:209, 1927)."""
    share, shrink = successes / n, 1 + Z95**2 / n
    middle = (share + Z95**2 / (2 * n)) / shrink
    reach = Z95 / shrink * (share * (1 - share) / n + Z95**2 / (4 * n**2)) ** 0.5
    return min(share, max(0.0, middle - reach)), max(share, min(1.0, middle + reach))


def bootstrap(marks: Sequence[float], weights: Sequence[float], seed: int = SEED) -> tuple[float, float]:
    """The interval of sum(weight * mark) / sum(weight) when rows are drawn again."""
    marks_N, weights_N = np.asarray(marks, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    weighted_N = marks_N * weights_N
    random, n = np.random.default_rng(seed), len(marks_N)
    at_a_time = max(1, DRAWN_AT_A_TIME // n)
    rates = []
    for start in range(0, RESAMPLES, at_a_time):
        rows_RN = random.integers(0, n, (min(at_a_time, RESAMPLES - start), n))
        rates.append(weighted_N[rows_RN].sum(axis=1) / weights_N[rows_RN].sum(axis=1))
    return _percentiles(np.concatenate(rates), n)


def bootstrap_macro_f1(confusion_KP: np.ndarray, seed: int = SEED) -> tuple[float, float]:
    """The interval of macro-F1 when the rows of each true label are drawn again, so that no label can vanish.

    Drawing n rows again is drawing the counts of a label's confusions from a multinomial, which needs no row. Where
    all rows are right, or all wrong, drawing again shows no spread, and Wilson's interval of accuracy stands in.
    """
    random, n = np.random.default_rng(seed), int(confusion_KP.sum())
    right = int(np.trace(confusion_KP))
    if right in (0, n):
        return wilson(right, n)
    draws = []
    for counts_P in confusion_KP:
        total = int(counts_P.sum())
        draws.append(random.multinomial(total, counts_P / max(1, total), size=RESAMPLES) if total else _none(counts_P))
    return _percentiles(macro_f1(np.stack(draws, axis=1)), n)


def _none(counts_P: np.ndarray) -> np.ndarray:
    return np.zeros((RESAMPLES, len(counts_P)), dtype=np.int64)


def confusion(truth: Sequence[int], predicted: Sequence[int]) -> np.ndarray:
    """Counts KP of true against predicted label, for the labels that occur on either side; -1 is no answer."""
    labels = sorted((set(truth) | set(predicted)) - {-1})
    place = {label: index for index, label in enumerate(labels)} | {-1: len(labels)}
    counts_KP = np.zeros((len(labels), len(labels) + 1), dtype=np.int64)
    np.add.at(counts_KP, ([place[label] for label in truth], [place[label] for label in predicted]), 1)
    return counts_KP


def macro_f1(confusions_RKP: np.ndarray) -> np.ndarray:
    """The mean over labels of F1 = 2 tp / (true + predicted), for each of R confusions; 0 for a label never met."""
    labels = confusions_RKP.shape[1]
    hits_RK = np.diagonal(confusions_RKP, axis1=1, axis2=2)[:, :labels]
    met_RK = confusions_RKP.sum(axis=2) + confusions_RKP.sum(axis=1)[:, :labels]
    scores_R: np.ndarray = (2 * hits_RK / np.maximum(met_RK, 1)).mean(axis=1)
    return scores_R


def _percentiles(values_R: np.ndarray, n: int) -> tuple[float, float]:
    """The middle 95 % of resampled values, expanded for few rows.

    Plain percentiles are too narrow for small n; taking the tail Phi(-t * sqrt(n / (n - 1))) in place of 0.025
    repairs it (Hesterberg, The American Statistician 69:371, 2015, "expanded percentile"). At n = 600 it is 0.0246.
    """
    from scipy.stats import norm, t

    tail = float(norm.cdf(t.ppf(0.025, n - 1) * (n / (n - 1)) ** 0.5)) if n > 1 else 0.025
    low, high = np.quantile(values_R, [tail, 1 - tail])
    return float(low), float(high)
