"""`pick`: which row to keep. The cheapest one that is not worse than the best by more than a margin."""

from __future__ import annotations

from collections.abc import Sequence

from llmops.core.comparison import Difference, Pick
from llmops.core.errors import RequestError
from llmops.core.report import LOWER_IS_BETTER, EvalReport
from llmops.experiments.compare import difference, paired

# In the measure's own unit: one point of a share; a hundredth of a bit, about 1 % of what a byte of chat costs; a
# hundredth of the scale of the ratings.
ONE_POINT = 0.01


def pick(reports: Sequence[EvalReport], margin: float | None = None) -> Pick:
    """The cheapest subject whose 95 % interval of (itself - best) has its low end at -margin or above, else the best.

    Reports without the suite's first measure take no part, and the sentence names them. Raises `RequestError`
    where no report has it, or where two were measured on different suites.
    """
    if not reports:
        raise RequestError("there is no report to pick from", "evaluate something first")
    metric = reports[0].suite.measures[0]
    margin = ONE_POINT * (reports[0].suite.scale or 1.0) if margin is None else margin
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    measured = [report for report in reports if metric in report.scores]
    if not measured:
        raise RequestError(f"no report has {metric}", "evaluate a model that has it")
    best = max(measured, key=lambda report: (sign * report.scores[metric].value, -report.subject.cost))
    cheapest_first = sorted(measured, key=lambda report: (report.subject.cost, -sign * report.scores[metric].value))
    nearest: tuple[EvalReport, Difference] | None = None
    for candidate in cheapest_first:
        against_best = difference(paired(best, candidate, metric), metric)
        if candidate is best or against_best.low >= -margin:
            break
        if candidate.subject.cost < best.subject.cost and (nearest is None or against_best.low > nearest[1].low):
            nearest = candidate, against_best
    sentence = _why(candidate, best, against_best, nearest, margin)
    absent = [report.subject.kind for report in reports if report not in measured]
    return Pick(
        subject=candidate.subject,
        because=sentence + (f" Without {metric}: {', '.join(absent)}." if absent else ""),
        margin=margin,
    )


def _why(
    chosen: EvalReport,
    best: EvalReport,
    against_best: Difference,
    nearest: tuple[EvalReport, Difference] | None,
    margin: float,
) -> str:
    metric, limit = best.suite.measures[0], _size(margin, best.suite.measures[0])
    if chosen is not best:
        return (
            f"{_scored(chosen)} is the cheapest that is not worse than the best, {_scored(best)}, "
            f"by more than {limit}: the difference is {_interval(against_best, metric)}."
        )
    if nearest is None:
        return f"{_scored(best)} is the best, and nothing cheaper was measured."
    return (
        f"{_scored(best)} is the best, and no cheaper one is shown to be within {limit} of it: "
        f"for the nearest, {_scored(nearest[0])}, the difference is {_interval(nearest[1], metric)}."
    )


def _scored(report: EvalReport) -> str:
    metric = report.suite.measures[0]
    return f"{report.subject.kind} ({metric} {report.scores[metric].value:.2f})"


def _size(number: float, metric: str) -> str:
    """0.01 is "1.00 points" of a share, and "0.01" of anything that is not one."""
    return f"{number:.2f}" if metric in LOWER_IS_BETTER else f"{100 * number:.2f} points"


def _interval(found: Difference, metric: str) -> str:
    low, high = _size(found.low, metric).removesuffix(" points"), _size(found.high, metric)
    return f"{_size(found.delta, metric).removesuffix(' points')} ({low} to {high}, n {found.n})"
