"""The paired tests. N rows, G groups of rows, R resamples, S samples.

Each gives a `Difference` whose interval and p agree. Rows that share a source are tested by group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from llmops.core.comparison import Difference
from llmops.core.errors import RequestError
from llmops.core.resampling import by_group, drawn

Z95 = 1.959963984540054
RESAMPLES = 5000
SEED = 20261123


def mcnemar(n: int, gained: int, lost: int) -> Difference:
    """The difference of two paired proportions: of `n` rows, `gained` went from wrong to right, `lost` back.

    p is McNemar's, exact: binomial with 1/2 on the rows that changed. The interval is Tango's score interval
    (Statistics in Medicine 17:891, 1998), widened where needed to hold the exact one that is conditional on the
    number of changed rows (Clopper and Pearson 1934). Tango's alone leaves 0 out slightly more often than the
    exact p allows, and the conditional one alone is too narrow where few rows changed; the hull of both covers
    at least what Tango's covers, and leaves 0 out exactly where p is below 0.05.
    """
    from scipy.stats import beta, binomtest

    changed, delta = gained + lost, (gained - lost) / n
    low, high = _tango(n, gained, lost)
    p = 1.0
    if changed:
        p = float(binomtest(gained, changed).pvalue)
        share_low = beta.ppf(0.025, gained, lost + 1) if gained else 0.0
        share_high = beta.ppf(0.975, gained + 1, lost) if lost else 1.0
        low = min(low, (2 * float(share_low) - 1) * changed / n)
        high = max(high, (2 * float(share_high) - 1) * changed / n)
    return Difference(delta=delta, low=low, high=high, p=p, n=n, test="mcnemar")


def _tango(n: int, gained: int, lost: int) -> tuple[float, float]:
    """Every difference that Tango's score test does not reject at 5 %, its two ends found by halving."""

    def score(delta: float) -> float:
        b = (2 * n - gained + lost) * delta - gained - lost
        c = -lost * delta * (1 - delta)
        wrong_way = (max(0.0, b * b - 8 * n * c) ** 0.5 - b) / (4 * n)
        variance = n * (2 * wrong_way + delta * (1 - delta))
        distance = gained - lost - n * delta
        return distance / variance**0.5 if variance > 0 else np.inf * distance if distance else 0.0

    observed = (gained - lost) / n
    return (
        _last_that_holds(lambda delta: score(delta) <= Z95, observed, -1.0),
        _last_that_holds(lambda delta: score(delta) >= -Z95, observed, 1.0),
    )


def _last_that_holds(holds: Callable[[float], bool], inside: float, end: float) -> float:
    if holds(end):
        return end
    for _ in range(60):
        middle = (inside + end) / 2
        inside, end = (middle, end) if holds(middle) else (inside, middle)
    return inside


def bootstrap(changes_N: np.ndarray, weights_N: np.ndarray) -> Difference:
    """The difference of two weighted rates, sum(weight * change) / sum(weight), rows drawn again in pairs.

    Interval and p take the bootstrap's standard error (5,000 resamples, fixed seed) times sqrt(n / (n - 1)) with
    Student's t of n - 1 degrees of freedom, which repairs the narrowness of percentiles for few rows (Hesterberg,
    The American Statistician 69:371, 2015) and makes the two agree. `rank_p` is Wilcoxon's of the changes, beside it.
    `RequestError` for fewer than two rows.
    """
    if len(changes_N) < 2:
        raise RequestError("one row cannot show a difference", "hold out more rows")
    found = _found(changes_N * weights_N, weights_N, len(changes_N), "bootstrap")
    return found.replace(rank_p=wilcoxon_p(changes_N))


def clustered(changes_N: np.ndarray, weights_N: np.ndarray, groups: Sequence[str]) -> Difference:
    """The same where rows share sources: groups are drawn, and there are as many witnesses as groups.

    Never more certain than `bootstrap` (or, where marks are right or wrong, `mcnemar`) of the same rows: where chance
    made the rows of a group unlike each other, groups alone would seem to know more than rows. `RequestError` for
    fewer than two groups.
    """
    sums = by_group(groups, changes_N * weights_N), by_group(groups, weights_N)
    if len(sums[0]) < 2:
        raise RequestError("one source cannot show a difference", "hold out rows of more sources")
    graded = not set(np.unique(changes_N)) <= {-1.0, 0.0, 1.0} or not np.all(weights_N == 1)
    rows = (
        bootstrap(changes_N, weights_N)
        if graded
        else mcnemar(len(changes_N), int((changes_N > 0).sum()), int((changes_N < 0).sum()))
    )
    found = _found(*sums, len(changes_N), "clustered")
    error, alone = found.high - found.low, rows.high - rows.low
    return found.replace(
        low=min(found.low, rows.low),
        high=max(found.high, rows.high),
        p=max(found.p, rows.p),
        groups=len(sums[0]),
        design_effect=max(1.0, (error / alone) ** 2) if alone > 0 else 1.0,
        rank_p=wilcoxon_p(sums[0] / sums[1]) if graded else None,
    )


def _found(weighted_G: np.ndarray, weights_G: np.ndarray, n: int, test: str) -> Difference:
    """The difference of the units (rows or groups) that are drawn again."""
    delta_S, reach_S, p_S = bootstrap_differences(weighted_G[:, None], weights_G[:, None])
    delta, reach = float(delta_S[0]), float(reach_S[0])
    made = {"delta": delta, "low": delta - reach, "high": delta + reach, "p": float(p_S[0]), "n": n, "test": test}
    return Difference.model_validate(made)


def bootstrap_differences(weighted_GS: np.ndarray, weights_GS: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(difference, half the width of its interval, p) of S samples of G units, all drawn again alike."""
    from scipy.stats import t

    n = len(weights_GS)
    rates = [counts_RG @ weighted_GS / (counts_RG @ weights_GS) for counts_RG in drawn(n, RESAMPLES, SEED)]
    error_S = np.concatenate(rates).std(axis=0) * (n / (n - 1)) ** 0.5
    delta_S = weighted_GS.sum(axis=0) / weights_GS.sum(axis=0)
    distance_S = np.divide(np.abs(delta_S), error_S, out=np.where(delta_S == 0, 0.0, np.inf), where=error_S > 0)
    return delta_S, float(t.ppf(0.975, n - 1)) * error_S, 2 * t.sf(distance_S, n - 1)


def wilcoxon_p(changes_N: np.ndarray) -> float:
    """Wilcoxon's signed-rank p, two-sided: does the typical row change? Rows that do not change are left out."""
    from scipy.stats import wilcoxon

    moved = changes_N[changes_N != 0]
    return float(wilcoxon(moved).pvalue) if len(moved) else 1.0
