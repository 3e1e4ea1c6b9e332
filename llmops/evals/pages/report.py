"""`report_page`: what a model was asked, what it scored, by slice and by length, how sure it was, and every answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
from markupsafe import Markup

from llmops.core.examined import Examined
from llmops.core.measures import RIGHT_OR_WRONG, measure_name
from llmops.core.report import LOWER_IS_BETTER, Answer, EvalReport, Score
from llmops.evals.calibration import ROWS_A_BIN, calibrate, reliability, too_few
from llmops.evals.intervals import of_marks
from llmops.evals.pages import plots
from llmops.evals.pages.answers import of_report, verdict
from llmops.evals.pages.learned import learned, verdict_tiles
from llmops.evals.pages.template import asked_how, called, render

MOST_LABELS = 12
MOST_LINES = 20  # of a plot
LENGTH_BINS = 5
FEWEST_A_BIN = 8


def report_page(report: EvalReport, examined: Examined | None = None) -> str:
    """The page of one evaluation; with its model's exam and ledger of forgetting where it is a tuned one."""
    metric = report.main.metric
    slices = worst_first(report.main.slices, metric)
    lengths = by_length(report.answers, metric)
    return render(
        kind="evaluation",
        title=f"{called(report.subject)} on {report.suite.dataset}",
        report=report,
        metric=metric,
        tiles=[*_tiles(report, metric), *([] if examined is None else verdict_tiles(examined))],
        scores=list(report.scores.values()),
        slices=slices,
        most_lines=MOST_LINES,
        slice_plot=plots.scores(dict(islice(slices.items(), MOST_LINES)), report.main, "Score by slice")
        if slices
        else "",
        length_plot=plots.scores(lengths, report.main, "Score by length of what was asked") if lengths else "",
        sure_plot=_sureness(report.answers, metric),
        sure_said=_calibrated(report),
        mark_plot=_marks(report.answers, metric),
        confusion=confusion(report.answers) if metric in RIGHT_OR_WRONG else None,
        learned=None if examined is None else learned(examined),
        asked=asked_how(report.suite),
        data={"answers": of_report(report.answers, metric), "pair": False, "lower": metric in LOWER_IS_BETTER},
    )


def worst_first(slices: dict[str, Score], metric: str) -> dict[str, Score]:
    """The slices, the worst score first."""
    sign = -1 if metric in LOWER_IS_BETTER else 1
    return dict(sorted(slices.items(), key=lambda item: sign * item[1].value))


def _tiles(report: EvalReport, metric: str) -> list[tuple[str, str, str]]:
    """(number, what it counts, tone)."""
    counts = Counter(verdict(answer, metric) for answer in report.answers)
    tiles = [
        (f"{counts[kind]:,}", kind, tone)
        for kind, tone in (("right", "good"), ("partly", "warn"), ("wrong", "bad"))
        if counts[kind]
    ]
    tiles += [
        (f"{counts[kind]:,}", what, "warn")
        for kind, what in (("unmarked", "without a mark"), ("failed", "failed"))
        if counts[kind]
    ]
    return [(f"{len(report.answers):,}", "asked", ""), *tiles]


def by_length(answers: Sequence[Answer], metric: str) -> dict[str, Score]:
    """The score of the shortest questions, of longer ones, and so on: groups of about the same number."""
    marked = [answer for answer in answers if metric in answer.marks]
    number = min(LENGTH_BINS, len(marked) // FEWEST_A_BIN)
    lengths = np.array([len(answer.prompt) for answer in marked])
    if number < 2 or lengths.min() == lengths.max():
        return {}
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, number + 1))[1:-1])
    found = {}
    for place in range(len(edges) + 1):
        mine = [
            one for one, bin_ in zip(marked, np.searchsorted(edges, lengths, side="left"), strict=True) if bin_ == place
        ]
        if len(mine) >= 2:
            shortest, longest = min(len(one.prompt) for one in mine), max(len(one.prompt) for one in mine)
            found[f"{shortest:,} to {longest:,} characters"] = _score(mine, metric)
    return found


def _score(answers: Sequence[Answer], metric: str) -> Score:
    """The mean mark of some answers, with its interval."""
    marks, weights = [one.marks[metric] for one in answers], [one.weights.get(metric, 1.0) for one in answers]
    graded = any(mark not in (0.0, 0.5, 1.0) for mark in marks) or any(metric in one.weights for one in answers)
    low, high = of_marks(marks, weights, None, graded)
    value = float(np.average(marks, weights=weights))
    return Score(metric=metric, value=value, low=min(low, value), high=max(high, value), n=len(answers))


def _sureness(answers: Sequence[Answer], metric: str) -> Markup | str:
    """The reliability curve, where answers have probabilities and are right or wrong."""
    sure = [one for one in answers if one.probability is not None and metric in one.marks]
    if metric not in RIGHT_OR_WRONG or len(sure) < 2 * ROWS_A_BIN:
        return ""
    said, right = (
        np.array(column, dtype=float)
        for column in zip(*[(one.probability, one.marks[metric]) for one in sure], strict=True)
    )
    return plots.reliability(reliability(said, right), "How often it was right, by how sure it was")


def _calibrated(report: EvalReport) -> str:
    """What the reliability curve comes to, where the probabilities of all labels are known."""
    if too_few(report):
        return ""
    found = calibrate(report)
    error = found.error_before
    mood = f"As it comes the model is {found.mood}. " if found.mood else ""
    return (
        f"{mood}Expected calibration error {error.value:.3f} ({error.low:.3f} to {error.high:.3f}); "
        f"a calibrated model of as many rows shows {found.error_by_chance:.3f} by chance."
    )


def _marks(answers: Sequence[Answer], metric: str) -> Markup | str:
    marks = [one.marks[metric] for one in answers if metric in one.marks]
    if metric in RIGHT_OR_WRONG or len(set(marks)) < 2:
        return ""
    return plots.histogram(marks, metric, f"Answers by {measure_name(metric)}")


def confusion(answers: Sequence[Answer]) -> dict[str, Any] | None:
    """What was answered to what was expected, counted, where both are a few labels."""
    pairs = Counter((one.expected.strip(), one.answered.strip()) for one in answers if "error" not in one.fields)
    labels = sorted({label for pair in pairs for label in pair})
    if not 2 <= len(labels) <= MOST_LABELS or len(answers) < 2 * len(labels):
        return None
    most = max(pairs.values())
    rows = [
        (wanted, [(pairs[wanted, said], pairs[wanted, said] / most, wanted == said) for said in labels])
        for wanted in labels
    ]
    return {"labels": labels, "rows": rows}
