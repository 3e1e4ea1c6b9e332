"""`compare`: is the challenger better than the baseline, or is it noise? Paired by row, on one and the same suite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite, nan

import numpy as np

from llmops.core.comparison import Comparison, Difference
from llmops.core.errors import RequestError
from llmops.core.report import LOWER_IS_BETTER, Answer, EvalReport

Z95 = 1.959963984540054
RESAMPLES = 5000
# Numbers drawn at a time by the bootstrap: 32 MiB of row indices.
DRAWN_AT_A_TIME = 2**22
Pair = tuple[Answer, Answer]


def compare(baseline: EvalReport, challenger: EvalReport, metric: str | None = None) -> Comparison:
    """Challenger minus baseline by `metric`, overall and by slice; None: the suite's first measure that both have.

    The sign is turned where lower is better. Right or wrong is judged by `mcnemar`, anything else by `bootstrap`;
    a slice of a single row has no bootstrap and is left out. Raises `RequestError` where the suites or the rows
    differ, or one side was not measured by `metric`.
    """
    shared = [name for name in baseline.suite.measures if name in baseline.scores and name in challenger.scores]
    metric = metric or (shared[0] if shared else baseline.suite.measures[0])
    pairs = paired(baseline, challenger, metric)
    return Comparison(
        suite=baseline.suite.id,
        metric=metric,
        baseline=baseline.subject,
        challenger=challenger.subject,
        baseline_report=baseline.id,
        challenger_report=challenger.id,
        overall=difference(pairs, metric),
        slices=_slices(pairs, metric, baseline.suite.slices),
    )


def paired(baseline: EvalReport, challenger: EvalReport, metric: str) -> list[Pair]:
    """Both sides' answers to each row, in the baseline's order, or `RequestError` where they cannot be paired."""
    if baseline.suite != challenger.suite:
        raise RequestError(
            f"{baseline.subject.ref} and {challenger.subject.ref} were measured on two different suites",
            "evaluate both on the same rows and measures, then compare",
        )
    answers = {answer.row: answer for answer in challenger.answers}
    asked, asked_too = (sorted(answer.row for answer in report.answers) for report in (baseline, challenger))
    if asked != asked_too or len(asked) != len(answers):
        raise RequestError("the two reports do not answer the same rows", "evaluate both again on the same suite")
    for report in (baseline, challenger):
        if not report.answers or not all(isfinite(answer.marks.get(metric, nan)) for answer in report.answers):
            raise RequestError(
                f"{report.subject.kind} ({report.subject.ref}) was not measured by {metric}",
                f"compare by one of: {', '.join(sorted(report.scores)) or 'none, it has no scores'}",
            )
    return [(answer, answers[answer.row]) for answer in baseline.answers]


def difference(pairs: Sequence[Pair], metric: str) -> Difference:
    """Second minus first of each pair, with a 95 % interval and p that agree: p is below 0.05 where 0 is outside."""
    marks = [(first.marks[metric], second.marks[metric]) for first, second in pairs]
    if _right_or_wrong(pairs, metric):
        return mcnemar(
            n=len(marks),
            gained=sum(second > first for first, second in marks),
            lost=sum(second < first for first, second in marks),
        )
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    changes = sign * np.array([second - first for first, second in marks])
    return bootstrap(changes, np.array([first.weights.get(metric, 1.0) for first, _ in pairs]))


def _right_or_wrong(pairs: Sequence[Pair], metric: str) -> bool:
    answers = [answer for pair in pairs for answer in pair]
    return all(answer.marks[metric] in (0.0, 1.0) and metric not in answer.weights for answer in answers)


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
    """The difference of two weighted rates, sum(weight * change) / sum(weight), rows resampled in pairs.

    Interval and p take the bootstrap's standard error (5,000 resamples, fixed seed) times sqrt(n / (n - 1)) with
    Student's t of n - 1 degrees of freedom, which repairs the narrowness of percentiles for few rows (Hesterberg,
    The American Statistician 69:371, 2015) and makes the two agree. `RequestError` for fewer than two rows.
    """
    from scipy.stats import t

    n = len(changes_N)
    if n < 2:
        raise RequestError("one row cannot show a difference", "hold out more rows")
    random = np.random.default_rng(20261123)
    weighted_N = changes_N * weights_N
    at_a_time = max(1, DRAWN_AT_A_TIME // n)
    rates = []
    for start in range(0, RESAMPLES, at_a_time):
        rows_RN = random.integers(0, n, (min(at_a_time, RESAMPLES - start), n))
        rates.append(weighted_N[rows_RN].sum(axis=1) / weights_N[rows_RN].sum(axis=1))
    error = float(np.concatenate(rates).std()) * (n / (n - 1)) ** 0.5
    delta = float(weighted_N.sum() / weights_N.sum())
    reach = float(t.ppf(0.975, n - 1)) * error
    p = float(2 * t.sf(abs(delta) / error, n - 1)) if error > 0 else float(delta == 0)
    return Difference(delta=delta, low=delta - reach, high=delta + reach, p=p, n=n, test="bootstrap")


def _slices(pairs: Sequence[Pair], metric: str, names: Sequence[str]) -> dict[str, Difference]:
    groups: dict[str, list[Pair]] = {}
    for name in names:
        for pair in pairs:
            if name in pair[0].fields:
                groups.setdefault(f"{name}={pair[0].fields[name]}", []).append(pair)
    return {
        key: difference(group, metric)
        for key, group in sorted(groups.items())
        if len(group) > 1 or _right_or_wrong(group, metric)
    }
