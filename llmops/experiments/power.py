"""`power`: what so many rows can show, and how many it takes to show what is wanted. Known before anything is run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from llmops.core.errors import RequestError
from llmops.core.measures import RIGHT_OR_WRONG
from llmops.core.power import Power
from llmops.core.report import LOWER_IS_BETTER, EvalReport
from llmops.core.resampling import by_group
from llmops.experiments.compare import changes_of, paired, right_or_wrong
from llmops.experiments.pick import ONE_POINT

GOAL = 0.8
MOST_ROWS = 10_000_000
# So often one of two rows of `tone` is right and the other wrong: 26 to 38 % of 600 rows (recipes/LOG.md).
CHANGED = 0.3


def power(rows: int, metric: str, wanted: float | None = None, changed: float = CHANGED) -> Power:
    """What `rows` independent rows can show, where nothing was measured yet.

    For right or wrong it is assumed that two models differ on the share `changed` of the rows; for graded marks the
    difference is told in deviations.
    """
    if metric not in RIGHT_OR_WRONG:
        by_deviation = _graded(rows, metric, 1.0, 0.1 if wanted is None else wanted, "whatever their spread")
        return by_deviation.replace(deviation=None)
    return _shares(rows, metric, changed, wanted, f"if two models differ on {100 * changed:.0f} % of the rows")


def power_from(baseline: EvalReport, challenger: EvalReport, metric: str, wanted: float | None = None) -> Power:
    """The same, from how far apart two models were on these very rows, and from how their sources hang together."""
    pairs = paired(baseline, challenger, metric)
    changes = changes_of(pairs, metric)
    weights = np.array([first.weights.get(metric, 1.0) for first, _ in pairs])
    effect = _design_effect(changes, weights, [first.group or first.row for first, _ in pairs])
    basis = f"as {baseline.subject.kind} {baseline.subject.ref} and {challenger.subject.kind} {challenger.subject.ref}"
    if right_or_wrong(pairs, metric):
        return _shares(len(pairs), metric, float((changes != 0).mean()), wanted, f"{basis} differ", effect)
    residuals = weights * (changes - (weights * changes).sum() / weights.sum()) / weights.mean()
    deviation = float(residuals.std(ddof=1))
    margin = ONE_POINT * (baseline.suite.scale or 1.0) if wanted is None else wanted
    return _graded(len(pairs), metric, deviation, margin, f"{basis} differ", effect)


def _shares(rows: int, metric: str, changed: float, wanted: float | None, basis: str, effect: float = 1.0) -> Power:
    wanted = ONE_POINT if wanted is None else wanted
    if not 0 < wanted <= 1:
        raise RequestError(f"no two shares differ by {wanted:g}", "give a difference up to 1: 0.02 is two points")
    changed = max(changed, 1 / rows)
    more = max(changed, wanted)  # rows that do not change show nothing
    return Power(
        rows=rows,
        metric=metric,
        design_effect=effect,
        changed=changed,
        basis=basis,
        smallest=_smallest(lambda delta: mcnemar_power(int(rows / effect), max(changed, delta), delta), 1.0),
        wanted=wanted,
        rows_needed=_needed(lambda n: mcnemar_power(int(n / effect), more, wanted)),
    )


def _graded(rows: int, metric: str, deviation: float, wanted: float, basis: str, effect: float = 1.0) -> Power:
    return Power(
        rows=rows,
        metric=metric,
        design_effect=effect,
        deviation=deviation,
        basis=basis,
        smallest=_smallest(lambda delta: graded_power(rows / effect, deviation, delta), 100 * deviation),
        wanted=wanted,
        rows_needed=_needed(lambda n: graded_power(n / effect, deviation, wanted)),
    )


def mcnemar_power(n: int, changed: float, delta: float) -> float:
    """The chance that McNemar's exact test finds, at 5 %, that `delta` more rows of `n` are right; exact itself.

    The rows that change are binomial with share `changed`; of these, (changed + delta) / (2 changed) are gains.
    """
    from scipy.stats import binom

    middle, spread = n * changed, (n * changed * (1 - changed)) ** 0.5
    changes_M = np.arange(max(0, int(middle - 9 * spread)), min(n, int(middle + 9 * spread) + 1) + 1)
    rejects_M = binom.isf(0.025, changes_M, 0.5) + 1  # the fewest gains whose p is 0.05 or less
    found_M = binom.sf(rejects_M - 1, changes_M, min(1.0, (changed + delta) / (2 * changed)))
    return float((binom.pmf(changes_M, n, changed) * found_M).sum())


def graded_power(n: float, deviation: float, delta: float) -> float:
    """The chance that a paired t test of n rows finds a mean difference of `delta`, at 5 %."""
    from scipy.stats import nct, t

    if deviation <= 0 or n < 2:
        return float(deviation <= 0 < delta)
    reach, shift = float(t.ppf(0.975, n - 1)), delta / deviation * n**0.5
    return 1.0 if shift > 30 else float(nct.sf(reach, n - 1, shift))


def _smallest(found: Callable[[float], float], most: float) -> float | None:
    """The smallest difference that is found in `GOAL` of all cases, by halving; rounded up to three decimals or digits.

    Up, so that what is printed is found that often.
    """
    if found(most) < GOAL:
        return None
    low, high = 0.0, most
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) >= GOAL else (middle, high)
    unit = min(0.001, 10.0 ** (math.floor(math.log10(high)) - 2))
    return min(most, round(math.ceil(high / unit - 1e-9) * unit, 12))


def _needed(found: Callable[[int], float]) -> int | None:
    """The fewest rows with which it is found, by doubling and halving; to three digits, as chance is not finer."""
    high = 4
    while found(high) < GOAL:
        high *= 2
        if high > MOST_ROWS:
            return None
    low = high // 2
    while high - low > max(1, high // 1000):
        middle = (low + high) // 2
        low, high = (low, middle) if found(middle) >= GOAL else (middle, high)
    return high


def _design_effect(changes_N: np.ndarray, weights_N: np.ndarray, groups: Sequence[str]) -> float:
    """How many rows of shared sources say as much as one that stands alone; never below 1."""
    number, n = len(set(groups)), len(groups)
    if not 1 < number < n:
        return 1.0
    residuals_N = weights_N * (changes_N - (weights_N * changes_N).sum() / weights_N.sum())
    alone, together = float((residuals_N**2).sum()), float((by_group(groups, residuals_N) ** 2).sum())
    return max(1.0, together * number / (number - 1) / alone) if alone > 0 else 1.0


def best_two(reports: Sequence[EvalReport], metric: str) -> tuple[EvalReport, EvalReport] | None:
    """The two best by `metric` among those that share the newest suite and mark every row; None where there are none.

    These are what a next comparison is most like: a majority row differs from everything on many rows.
    """
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    marked = [one for one in reports if one.answers and all(metric in answer.marks for answer in one.answers)]
    alike = {one.id: one for one in marked if one.suite == marked[-1].suite and metric in one.scores}
    ranked = sorted(alike.values(), key=lambda one: -sign * one.scores[metric].value)
    return (ranked[1], ranked[0]) if len(ranked) > 1 else None
