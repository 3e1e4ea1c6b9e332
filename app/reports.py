"""Reports: every row of the table on one suite, its slices, what it learned, and the answers behind each number."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlencode

from llmops.core.dataset import DatasetManifest
from llmops.core.errors import LlmopsError
from llmops.core.report import Answer, EvalReport, Score
from llmops.store.workspace import Workspace

from . import learned, plots, views
from .markup import Html, card, chip, el, empty, join, note, row_name, score_text, table
from .theme import html_box
from .views import Panel

PAGE = 25
ALL = "every row"
# A spreadsheet runs a cell that begins with one of these; a leading apostrophe makes it text.
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")


def draw(at: Workspace) -> Panel:
    """The tab."""
    import gradio as gr

    nothing = html_box(visible=False)
    with gr.Column(visible=False) as everything:
        suite = gr.Dropdown([], label="Rows", elem_id="report-suite", filterable=False)
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                overview = gr.Plot(show_label=False, container=False)
            with gr.Column(scale=4, min_width=300):
                choice = gr.Radio([], label="Whose answers", elem_id="report-list", elem_classes="lo-pick")
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                slices = gr.Plot(show_label=False, container=False)
            with gr.Column(scale=4, min_width=300):
                scores = html_box(elem_id="report-scores")
        verdicts = html_box(elem_id="report-learned")
        forgot = gr.Plot(show_label=False, container=False, visible=False)
        with gr.Row(equal_height=True):
            wrong = gr.Checkbox(False, label="Only the wrong ones", elem_id="only-wrong", min_width=200)
            part = gr.Dropdown([ALL], value=ALL, label="Slice", elem_id="report-slice", filterable=False)
            page = gr.Number(1, label="Page", precision=0, minimum=1, elem_id="report-page", min_width=90)
        answers = html_box(elem_id="report-answers")

    def bound(act: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given: act(at, *given)

    quiet: dict[str, Any] = {"show_progress": "hidden"}
    below = [slices, scores, verdicts, forgot, part, page, answers]
    suite.input(bound(_of_suite), suite, [overview, choice, *below], **quiet)
    choice.input(bound(_of_report), choice, below, **quiet).then(lambda: False, None, wrong, **quiet)
    gr.on([wrong.input, part.input], lambda: 1, None, page, **quiet).then(
        bound(_of_filter), [choice, wrong, part, page], answers, **quiet
    )
    gr.on([page.submit, page.input], bound(_of_filter), [choice, wrong, part, page], answers, **quiet)
    return Panel([nothing, everything, suite, overview, choice, *below], bound(_refresh), [suite, choice])


def _refresh(at: Workspace, suite_now: str | None, report_now: str | None) -> list[Any]:
    """All of the tab, with what was chosen before where it is still there."""
    import gradio as gr

    suites = _suites(at)
    keys = [key for _, key in suites]
    chosen = suite_now if suite_now in keys else (keys[0] if keys else None)
    hint = el("div", empty("No report yet.", "A run ends with one. Start it on Today or Runs."), class_="lo-scope")
    return [
        gr.update(visible=not suites, value=hint),
        gr.update(visible=bool(suites)),
        gr.update(choices=suites, value=chosen),
        *_of_suite(at, chosen, report_now),
    ]


def _of_suite(at: Workspace, chosen: str | None, report_now: str | None = None) -> list[Any]:
    """The overview of a suite and everything below it."""
    import gradio as gr

    found = _reports(at, chosen)
    refs = [report.id for report in found]
    report_now = report_now if report_now in refs else (refs[-1] if refs else None)
    choices = [(_label(report), report.id) for report in found]
    decides = found[0].suite.measures[0] if found else ""
    mains = {_key(report): report.main for report in found if report.main.metric == decides}
    names = {_key(report): _name(report) for report in found}
    return [
        plots.intervals(mains, names=names) if mains else None,
        gr.update(choices=choices, value=report_now),
        *_of_report(at, report_now),
    ]


def _of_report(at: Workspace, ref: str | None) -> list[Any]:
    """Everything that shows one report."""
    import gradio as gr

    if ref is None:
        return [None, "", "", gr.update(value=None, visible=False), gr.update(choices=[ALL], value=ALL), 1, ""]
    report = views.report(at, ref)
    parts = [ALL, *report.main.slices]
    examined = views.examined(at, ref)
    ledger = None if examined is None else examined.forgetting
    return [
        _slice_plot(report),
        _scores(report),
        learned.cards(examined),
        gr.update(value=plots.abilities(ledger) if ledger else None, visible=ledger is not None),
        gr.update(choices=parts, value=ALL),
        1,
        _answers(report, False, ALL, 1),
    ]


def _of_filter(at: Workspace, ref: str | None, only_wrong: bool, part: str, number: float | None) -> Any:
    """The answers that a filter leaves."""
    return _answers(views.report(at, ref), only_wrong, part, int(number or 1)) if ref else ""


def _all(at: Workspace) -> list[EvalReport]:
    return [views.report(at, ref) for ref in at.ids(EvalReport)]


def _suites(at: Workspace) -> list[tuple[str, str]]:
    """(label, suite id) of every suite that was measured, newest first."""
    found: dict[str, str] = {}
    for report in reversed(_all(at)):
        if report.suite.id not in found:
            try:
                name = at.get(DatasetManifest, report.suite.dataset).name
            except LlmopsError:
                name = report.suite.dataset
            measure = plots.metric_name(report.suite.measures[0])
            found[report.suite.id] = f"{name}: {report.main.n} held-out rows, {measure}"
    return [(label, key) for key, label in found.items()]


def _reports(at: Workspace, suite: str | None) -> list[EvalReport]:
    """The reports on one suite, cheapest subject first."""
    return sorted((report for report in _all(at) if report.suite.id == suite), key=lambda report: report.subject.cost)


def _key(report: EvalReport) -> str:
    return f"{report.subject.kind} {report.id}"


def _name(report: EvalReport) -> str:
    kind = row_name(report.subject.kind)
    return f"{kind}, {report.subject.ref}" if report.subject.kind in ("tuned", "endpoint") else kind


def _label(report: EvalReport) -> str:
    main = report.main
    other = "" if main.metric == report.suite.measures[0] else f"{plots.metric_name(main.metric)} "
    return f"{_name(report)} · {other}{main.value:.3f} [{main.low:.3f}, {main.high:.3f}]"


def _slice_plot(report: EvalReport) -> Any:
    return plots.intervals({"overall": report.main, **report.main.slices}, names={"overall": "overall"})


def _scores(report: EvalReport) -> Html:
    """Every score of a report, overall and by slice, in numbers."""
    rows: list[tuple[object, ...]] = []
    for name, score in report.scores.items():
        rows.append((el("strong", plots.metric_name(name)), el("span", score_text(score), class_="lo-num")))
        rows += [(key, el("span", score_text(part), class_="lo-num")) for key, part in _slices(score)]
    return el("div", card(_name(report), table(("score", "value [95 % interval]"), rows)), class_="lo-scope")


def _slices(score: Score) -> Iterable[tuple[str, Score]]:
    return score.slices.items()


def judging_measure(report: EvalReport) -> str | None:
    """The first measure that calls every single answer right or wrong; None where all are rates, as bits per byte."""
    for measure in report.suite.measures:
        marks = [answer.marks.get(measure) for answer in report.answers if measure not in answer.weights]
        if len(marks) == len(report.answers) and set(marks) <= {0.0, 1.0}:
            return measure
    return None


def chosen_answers(report: EvalReport, only_wrong: bool, part: str) -> list[Answer]:
    """The answers of a slice (`domain=tweets`), or of every row; only the wrong ones where that is asked for."""
    field, _, value = part.partition("=")
    measure = judging_measure(report) if only_wrong else None
    return [
        answer
        for answer in report.answers
        if (part == ALL or answer.fields.get(field) == value)
        and (not only_wrong or (measure is not None and answer.marks[measure] < 1.0))
    ]


def _answers(report: EvalReport, only_wrong: bool, part: str, page: int) -> Html:
    found = chosen_answers(report, only_wrong, part)
    if not found:
        return el("div", note("No answer fits this filter."), class_="lo-scope")
    pages = (len(found) + PAGE - 1) // PAGE
    page = min(max(1, page), pages)
    measure = judging_measure(report)
    rows = [_row(report, measure, answer) for answer in found[(page - 1) * PAGE : page * PAGE]]
    told = "" if measure else plots.metric_name(report.suite.measures[0])
    head = ("asked", "expected", "answered", told, "probability", "slice")
    link = f"download/{report.id}?{urlencode({'wrong': int(only_wrong), 'slice': part})}"
    where = f"{len(found)} of {len(report.answers)} answers, page {page} of {pages}. "
    top = el("p", where, el("a", "Download as CSV", href=link, download=f"{report.id}.csv"), class_="lo-quiet")
    return el("div", top, table(head, rows, "lo-answers"), class_="lo-scope")


def _row(report: EvalReport, judging: str | None, answer: Answer) -> tuple[object, ...]:
    if judging is not None:
        verdict = chip("right", "good") if answer.marks[judging] == 1.0 else chip("wrong", "bad")
    else:  # a rate is neither: its number
        verdict = el("span", f"{answer.marks[report.suite.measures[0]]:.3f}", class_="lo-num")
    probability = "" if answer.probability is None else f"{answer.probability:.3f}"
    fields = join(el("div", f"{key}={value}") for key, value in answer.fields.items())
    return (answer.prompt, answer.expected, answer.answered, verdict, el("span", probability, class_="lo-num"), fields)


def neutral(cell: object) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = str(cell)
    return f"'{text}" if text.lstrip(" ").startswith(FORMULA_SIGNS) else text


def as_csv(at: Workspace, ref: str, only_wrong: bool, part: str) -> str:
    """The answers of a report that a filter leaves, as CSV with formulas made harmless."""
    report = views.report(at, ref)
    fields = sorted({key for answer in report.answers for key in answer.fields})
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(
        map(neutral, ["row", "prompt", "expected", "answered", "probability", *report.suite.measures, *fields])
    )
    for answer in chosen_answers(report, only_wrong, part):
        marks = [answer.marks.get(measure, "") for measure in report.suite.measures]
        probability = "" if answer.probability is None else answer.probability
        given = [answer.row, answer.prompt, answer.expected, answer.answered]
        more = [answer.fields.get(key, "") for key in fields]
        writer.writerow([*map(neutral, given), probability, *marks, *map(neutral, more)])
    return file.getvalue()
