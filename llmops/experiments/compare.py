"""`compare`: is the challenger better than the baseline, or is it noise? Paired by row, on one and the same suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

import numpy as np

from llmops.core.comparison import Comparison, Difference, holm
from llmops.core.errors import RequestError
from llmops.core.report import LOWER_IS_BETTER, Answer, EvalReport
from llmops.experiments.tests import bootstrap, clustered, mcnemar

Pair = tuple[Answer, Answer]


def compare(baseline: EvalReport, challenger: EvalReport, metric: str | None = None) -> Comparison:
    """Challenger minus baseline by `metric`, overall and by slice; None: the suite's first measure that both have.

    The sign is turned where lower is better. Right or wrong is judged by `mcnemar`, anything else by `bootstrap`, and
    rows that share sources by `clustered`; a slice of a single row has no bootstrap and is left out. Raises
    `RequestError` where the suites or the rows differ, or one side was not measured by `metric`.
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
    """Both sides' answers to each row, in the baseline's order, or `RequestError` where they cannot be paired.

    A row that one side's scorer could not mark is left out.
    """
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
        marks = [answer.marks[metric] for answer in report.answers if metric in answer.marks]
        if not marks or not all(isfinite(mark) for mark in marks):
            raise RequestError(
                f"{report.subject.kind} ({report.subject.ref}) was not measured by {metric}",
                f"compare by one of: {', '.join(sorted(report.scores)) or 'none, it has no scores'}",
            )
    pairs = [(answer, answers[answer.row]) for answer in baseline.answers]
    marked = [pair for pair in pairs if all(metric in answer.marks for answer in pair)]
    if not marked:
        raise RequestError(
            f"no row has a mark by {metric} on both sides", "look at what the scorer said of the answers"
        )
    return marked


def difference(pairs: Sequence[Pair], metric: str) -> Difference:
    """Second minus first of each pair, with a 95 % interval and p that agree: p is below 0.05 where 0 is outside.

    Rows that share a source are tested by `clustered`; where one source holds them all, nothing is known of another,
    and they count as rows.
    """
    changes = changes_of(pairs, metric)
    weights = np.array([first.weights.get(metric, 1.0) for first, _ in pairs])
    groups = [first.group or first.row for first, _ in pairs]
    if 1 < len(set(groups)) < len(groups):
        return clustered(changes, weights, groups)
    if right_or_wrong(pairs, metric):
        return mcnemar(n=len(pairs), gained=int((changes > 0).sum()), lost=int((changes < 0).sum()))
    return bootstrap(changes, weights)


def changes_of(pairs: Sequence[Pair], metric: str) -> np.ndarray:
    """Second minus first of each pair, N; the sign is turned where lower is better."""
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    return sign * np.array([second.marks[metric] - first.marks[metric] for first, second in pairs])


def right_or_wrong(pairs: Sequence[Pair], metric: str) -> bool:
    """Whether every mark is 0 or 1, each row counting alike."""
    answers = [answer for pair in pairs for answer in pair]
    return all(answer.marks[metric] in (0.0, 1.0) and metric not in answer.weights for answer in answers)


def _slices(pairs: Sequence[Pair], metric: str, names: Sequence[str]) -> dict[str, Difference]:
    """Each slice with Holm's p over all of them: among twenty slices, one below 0.05 is what chance does."""
    parts: dict[str, list[Pair]] = {}
    for name in names:
        for pair in pairs:
            if name in pair[0].fields:
                parts.setdefault(f"{name}={pair[0].fields[name]}", []).append(pair)
    return adjusted(
        {
            key: difference(part, metric)
            for key, part in sorted(parts.items())
            if len(part) > 1 or right_or_wrong(part, metric)
        }
    )


def adjusted(found: Mapping[str, Difference]) -> dict[str, Difference]:
    """Several differences, each with Holm's p; a single one as it is."""
    if len(found) < 2:
        return dict(found)
    ps = holm({name: one.p for name, one in found.items()})
    return {name: one.replace(adjusted_p=ps[name]) for name, one in found.items()}
