"""`rank`: who is best, and who is not shown to be worse? And `line_up`: what makes them differ?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmops.core.comparison import Comparison
from llmops.core.errors import RequestError
from llmops.core.experiments import Board, BoardLine, Column, Curve, Flip
from llmops.core.report import LOWER_IS_BETTER, EvalReport
from llmops.core.run import StepRecord
from llmops.experiments.compare import adjusted, compare, difference, paired

MOST_FLIPS = 50
MOST_POINTS = 60
SHORTEST_TEXT = 60  # of a value in a table of differences


def rank(lines: Sequence[BoardLine], reports: Mapping[str, EvalReport], sweep: str | None = None) -> Board:
    """The lines sorted: the best score first, then what has none. `reports` are theirs, by id, all on one suite.

    Each is compared with the best, by rows, with Holm's p over all of them.
    """
    measured = [line for line in lines if line.report in reports]
    if not measured:
        return Board(suite=None, metric=None, sweep=sweep, lines=tuple(lines))
    metric = reports[str(measured[0].report)].suite.measures[0]
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    values = {one: report.scores[metric].value for one, report in reports.items() if metric in report.scores}
    scored = [
        line.replace(score=reports[str(line.report)].scores[metric].replace(slices={}))
        for line in measured
        if line.report in values
    ]
    # Of equals the cheaper one comes first.
    scored.sort(key=lambda line: (-sign * values[str(line.report)], line.subject.cost if line.subject else 0))
    best = reports[str(scored[0].report)]
    pairs = {
        str(place): paired(best, reports[str(line.report)], metric)
        for place, line in enumerate(scored)
        if place and all(metric in answer.marks for answer in reports[str(line.report)].answers)
    }
    against = adjusted({place: difference(both, metric) for place, both in pairs.items()})
    ranked = [line.replace(against_best=against.get(str(place))) for place, line in enumerate(scored)]
    rest = [line for line in lines if line.report not in {one.report for one in ranked}]
    return Board(suite=best.suite.id, metric=metric, sweep=sweep, lines=(*ranked, *rest))


def compare_all(reports: Sequence[EvalReport], metric: str | None = None) -> tuple[Comparison, ...]:
    """Each of the others against the first, Holm's p over all of them."""
    made = [compare(reports[0], other, metric) for other in reports[1:]]
    overall = adjusted({str(place): one.overall for place, one in enumerate(made)})
    return tuple(one.replace(overall=overall[str(place)]) for place, one in enumerate(made))


def flips(reports: Sequence[EvalReport], metric: str) -> tuple[int, tuple[Flip, ...]]:
    """(rows on which the marks differ, the first of them): the most disagreed on first, in the order of the suite."""
    others = [{answer.row: answer for answer in report.answers} for report in reports]
    rows = [answer.row for answer in reports[0].answers if all(metric in one[answer.row].marks for one in others)]
    marks = {row: [one[row].marks[metric] for one in others] for row in rows}
    differing = sorted((row for row in rows if len(set(marks[row])) > 1), key=lambda row: -float(np.ptp(marks[row])))
    return len(differing), tuple(
        Flip(
            row=row,
            prompt=others[0][row].prompt,
            expected=others[0][row].expected,
            answered=tuple(one[row].answered for one in others),
            marks=tuple(marks[row]),
        )
        for row in differing[:MOST_FLIPS]
    )


def differing(values: Sequence[Any]) -> dict[str, tuple[str, ...]]:
    """The dotted fields of plain JSON values that are not the same in all, each with its value in each, or a dash."""
    flat = [dict(_leaves(value)) for value in values]
    fields = dict.fromkeys(field for one in flat for field in one)
    rows = {field: tuple(_short(one.get(field, "–")) for one in flat) for field in fields}
    return {field: row for field, row in rows.items() if len(set(row)) > 1}


def _leaves(value: Any, name: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [leaf for key, part in value.items() for leaf in _leaves(part, f"{name}.{key}" if name else str(key))]
    if isinstance(value, (list, tuple)) and any(isinstance(part, (Mapping, list)) for part in value):
        return [leaf for place, part in enumerate(value) for leaf in _leaves(part, f"{name}.{place}")]
    return [(name, value)]


def _short(value: Any) -> str:
    text = "–" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= SHORTEST_TEXT else text[: SHORTEST_TEXT - 1] + "…"


def curve(run: str, records: Sequence[StepRecord]) -> Curve:
    """The losses of a run, as means over so many steps that at most 60 points are left."""
    parts = [part for part in np.array_split(np.arange(len(records)), min(MOST_POINTS, len(records))) if len(part)]
    return Curve(
        run=run,
        steps=tuple(records[int(part[-1])].step for part in parts),
        loss_nats=tuple(round(float(np.mean([records[place].loss_nats for place in part])), 5) for part in parts),
        heldout=tuple(
            (record.step, round(record.heldout_loss_nats, 5))
            for record in records
            if record.heldout_loss_nats is not None
        ),
    )


def check_suites(columns: Sequence[Column], reports: Sequence[EvalReport]) -> str:
    """Why columns cannot be compared by rows, or nothing."""
    if len({column.ref for column in columns}) != len(columns):
        raise RequestError("the same one is named twice", "name different runs or versions")
    suites = {report.suite.id for report in reports}
    if len(suites) > 1:
        return f"they were measured on {len(suites)} different suites, so their answers are not compared"
    return ""
