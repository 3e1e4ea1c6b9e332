"""Intervals of 95 %. N rows, G groups of rows, S samples, R resamples, K labels, P predicted classes (the labels, and
one for no answer).

Rows that share a source are no independent witnesses. Wherever groups are given, groups are drawn, not rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmops.core.resampling import by_group, drawn

Z95 = 1.959963984540054
RESAMPLES = 2000
SEED = 20261123


def of_marks(
    marks: Sequence[float], weights: Sequence[float], groups: Sequence[str] | None, graded: bool, top: float = 1.0
) -> tuple[float, float]:
    """The interval of a rate: Wilson's where marks are right or wrong, else a bootstrap; by group where given.

    Marks that are all alike show no spread when drawn again; from 0 to `top` Wilson's stands in, which is never too
    narrow: no marks of one mean spread wider than those that are right or wrong.
    """
    alike = len(set(marks)) == 1 and 0 <= marks[0] <= top and set(weights) == {1.0}
    if graded and not alike:
        return bootstrap(marks, weights, groups=groups)
    shares = [mark / top for mark in marks]
    low, high = wilson(sum(shares), len(shares)) if groups is None else wilson_clustered(shares, groups)
    return top * low, top * high


def of_labels(truth: Sequence[int], predicted: Sequence[int], groups: Sequence[str] | None) -> tuple[float, float]:
    """The interval of macro-F1."""
    if groups is None:
        return bootstrap_macro_f1(confusion(truth, predicted))
    return bootstrap_macro_f1_clustered(truth, predicted, groups)


def wilson(successes: float, n: float, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a share (Journal of the American Statistical Association 22:209, 1927)."""
    share, shrink = successes / n, 1 + z**2 / n
    middle = (share + z**2 / (2 * n)) / shrink
    reach = z / shrink * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    return min(share, max(0.0, middle - reach)), max(share, min(1.0, middle + reach))


def wilson_clustered(marks: Sequence[float], groups: Sequence[str]) -> tuple[float, float]:
    """Wilson's interval of a share of grouped rows: for n / design effect rows, with Student's t of G - 1 degrees.

    So Korn and Graubard (Survey Methodology 24:193, 1998) do with the exact interval, and Dean and Pagano (Journal of
    Survey Statistics and Methodology 3:484, 2015) with Wilson's. Where all rows are marked alike, the design effect
    cannot be seen, and each group counts as one row.
    """
    from scipy.stats import t

    n, number, right = len(marks), len(set(groups)), sum(marks)
    effect = n / number if len(set(marks)) == 1 else design_effect(marks, [1.0] * n, groups)
    return wilson(right / effect, n / effect, float(t.ppf(0.975, number - 1)))


def design_effect(marks: Sequence[float], weights: Sequence[float], groups: Sequence[str]) -> float:
    """The variance of sum(weight * mark) / sum(weight) with groups drawn over that with rows drawn, never below 1.

    Both are linearised (Kish, Survey Sampling, 1965). Below 1 it would shorten an interval on the word of chance.
    """
    marks_N, weights_N = np.asarray(marks, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    residuals_N = weights_N * (marks_N - (weights_N * marks_N).sum() / weights_N.sum())
    residuals_G = by_group(groups, residuals_N)
    n, number = len(residuals_N), len(residuals_G)
    if number < 2:
        return 1.0
    alone = n / (n - 1) * float((residuals_N**2).sum())
    together = number / (number - 1) * float((residuals_G**2).sum())
    return max(1.0, together / alone) if alone > 0 else 1.0


def bootstrap(
    marks: Sequence[float], weights: Sequence[float], seed: int = SEED, groups: Sequence[str] | None = None
) -> tuple[float, float]:
    """The interval of sum(weight * mark) / sum(weight) when rows are drawn again, or groups of them."""
    weights_N = np.asarray(weights, dtype=np.float64)
    weighted_N = np.asarray(marks, dtype=np.float64) * weights_N
    if groups is not None:
        weighted_N, weights_N = by_group(groups, weighted_N), by_group(groups, weights_N)
    low_S, high_S = bootstrap_rates(weighted_N[:, None], weights_N[:, None], seed)
    return float(low_S[0]), float(high_S[0])


def bootstrap_rates(weighted_NS: np.ndarray, weights_NS: np.ndarray, seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the intervals of S samples of N rows (or groups) each, all drawn again alike."""
    rates = [
        counts_RN @ weighted_NS / (counts_RN @ weights_NS) for counts_RN in drawn(len(weights_NS), RESAMPLES, seed)
    ]
    return _percentiles(np.concatenate(rates), len(weights_NS))


def bootstrap_macro_f1(confusion_KP: np.ndarray, seed: int = SEED) -> tuple[float, float]:
    """The interval of macro-F1 when the rows of each true label are drawn again, so that no label can vanish.

    Drawing n rows again is drawing the counts of a label's confusions from a multinomial, which needs no row. Where
    all rows are right, or all wrong, drawing again shows no spread, and Wilson's interval of accuracy stands in. Where
    each label's rows were answered alike (a model that says one label to all), how often each label comes is all that
    is uncertain: all rows are drawn again.
    """
    random, n = np.random.default_rng(seed), int(confusion_KP.sum())
    right = int(np.trace(confusion_KP))
    if right in (0, n):
        return wilson(right, n)
    if ((confusion_KP > 0).sum(axis=1) <= 1).all():
        whole_RKP = random.multinomial(n, confusion_KP.ravel() / n, size=RESAMPLES).reshape(-1, *confusion_KP.shape)
        low, high = _percentiles(macro_f1(whole_RKP), n)
        return float(low), float(high)
    draws = []
    for counts_P in confusion_KP:
        total = int(counts_P.sum())
        draws.append(random.multinomial(total, counts_P / max(1, total), size=RESAMPLES) if total else _none(counts_P))
    low, high = _percentiles(macro_f1(np.stack(draws, axis=1)), n)
    return float(low), float(high)


def bootstrap_macro_f1_clustered(
    truth: Sequence[int], predicted: Sequence[int], groups: Sequence[str], seed: int = SEED
) -> tuple[float, float]:
    """The same where groups of rows are drawn again, whatever labels they have."""
    whole_KP = confusion(truth, predicted)
    right, n = int(np.trace(whole_KP)), len(truth)
    if right in (0, n):
        return wilson_clustered([float(right == n)] * n, groups)
    labels = sorted((set(truth) | set(predicted)) - {-1})
    place = {label: index for index, label in enumerate(labels)} | {-1: len(labels)}
    one_NC = np.zeros((n, whole_KP.size))
    wide = whole_KP.shape[1]
    cells = [place[true] * wide + place[said] for true, said in zip(truth, predicted, strict=True)]
    one_NC[np.arange(n), cells] = 1.0
    by_group_GC = by_group(groups, one_NC)
    found = [
        macro_f1((counts @ by_group_GC).reshape(-1, *whole_KP.shape))
        for counts in drawn(len(by_group_GC), RESAMPLES, seed)
    ]
    low, high = _percentiles(np.concatenate(found), len(by_group_GC))
    return float(low), float(high)


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


def _percentiles(values_R: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The middle 95 % of resampled values (of each column), expanded for few rows.

    Plain percentiles are too narrow for small n; taking the tail Phi(-t * sqrt(n / (n - 1))) in place of 0.025
    repairs it (Hesterberg, The American Statistician 69:371, 2015, "expanded percentile"). At n = 600 it is 0.0246.
    """
    from scipy.stats import norm, t

    tail = float(norm.cdf(t.ppf(0.025, n - 1) * (n / (n - 1)) ** 0.5)) if n > 1 else 0.025
    low, high = np.quantile(values_R, [tail, 1 - tail], axis=0)
    return low, high
