"""The verbs that weigh: what rows can show, who leads, what makes two differ, where one is weak, what to believe."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import inf

from llmops.core.calibration import Abstention, Calibration
from llmops.core.dataset import DatasetManifest
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.experiments import Board, BoardLine, Column, LineUp, Sweep
from llmops.core.measures import MEASURE_NAMES, OF_ALL_ROWS, measure_name
from llmops.core.plan import Plan
from llmops.core.power import Power
from llmops.core.report import EvalReport, Suite
from llmops.core.slices import Slices
from llmops.core.tasks import measures_of
from llmops.pipeline.judge import report_of
from llmops.pipeline.subjects import subject_of, suite_of
from llmops.store.files import read_json
from llmops.store.workspace import Workspace


def power(
    of: str | int, at: Workspace, metric: str | None = None, wanted: float | None = None, changed: float | None = None
) -> Power:
    """What so many rows can show, and how many show a `wanted` difference.

    `of` is a number of rows, or a plan, a data set or a report, whose held-out rows are meant. How often two models
    differ is measured, where two were measured on these rows, unless `changed` assumes it.
    """
    from llmops.experiments.power import CHANGED, best_two, power_from
    from llmops.experiments.power import power as assumed

    _sensible(wanted, changed)
    if isinstance(of, int) or of.isdecimal():
        decides = metric or "accuracy"
        _known(decides, MEASURE_NAMES)
        return assumed(_enough(int(of)), decides, wanted, CHANGED if changed is None else changed)
    suite, rows = _asked(of, at)
    decides = metric or suite.measures[0]
    _known(decides, suite.measures)
    pair = best_two(_reports_on(suite, at), decides) if changed is None else None
    if pair is not None:
        return power_from(*pair, decides, wanted)
    return assumed(_enough(rows), decides, wanted, CHANGED if changed is None else changed)


def power_of_suite(suite: Suite, rows: int, at: Workspace) -> Power:
    """What `rows` questions of a suite can show by its first measure; from what was measured on it, if anything was."""
    from llmops.experiments.power import best_two, power_from
    from llmops.experiments.power import power as assumed

    pair = best_two([one for one in _reports_on(suite, at) if one.suite == suite], suite.measures[0])
    return power_from(*pair, suite.measures[0]) if pair else assumed(rows, suite.measures[0])


def _known(metric: str, measures: Collection[str]) -> None:
    if metric in OF_ALL_ROWS:
        paired = [name for name in measures if name not in OF_ALL_ROWS]
        what = f"{measure_name(metric)} is one number of all rows: no row has a mark by it, so none can be paired"
        raise RequestError(what, f"ask by one of: {', '.join(paired)}")
    if metric not in measures:
        raise RequestError(f"nothing there is measured by {metric!r}", f"one of: {', '.join(measures)}")


def _sensible(wanted: float | None, changed: float | None) -> None:
    if wanted is not None and not 0 < wanted < inf:
        raise RequestError(f"a difference of {wanted:g} is none to look for", "give one above 0: 0.02 is two points")
    if changed is not None and not 0 < changed <= 1:
        raise RequestError(f"{changed:g} is no share of rows", "give --changed above 0 and at most 1: 0.3 is usual")


def _enough(rows: int) -> int:
    if rows < 2:
        raise RequestError(f"{rows} rows show nothing", "name 2 at least")
    return rows


def _asked(of: str, at: Workspace) -> tuple[Suite, int]:
    """The suite that a plan, a data set, a report, a run or a version is measured on, and its number of rows."""
    if of.startswith(f"{EvalReport.prefix}-"):
        report = at.get(EvalReport, of)
        return report.suite, len(report.answers)
    if of.startswith(f"{Plan.prefix}-"):
        planned = at.get(Plan, of)
        return suite_of(planned, at), len(at.rows(planned.dataset, "heldout"))
    if of.startswith(f"{DatasetManifest.prefix}-") or of in {one.name for one in at.all(DatasetManifest)}:
        manifest = at.get(DatasetManifest, of)
        measures = measures_of(manifest.task)
        return Suite(dataset=manifest.id, rows_sha256="", measures=measures, slices=()), manifest.rows_heldout
    _, planned, _ = subject_of(of, at)
    return suite_of(planned, at), len(at.rows(planned.dataset, "heldout"))


def _reports_on(suite: Suite, at: Workspace) -> list[EvalReport]:
    """Every report on the rows of a suite, oldest first. Answers of others are not read."""
    files = {fact_id: at.folder(EvalReport, fact_id) / "report.json" for fact_id in at.ids(EvalReport)}
    wanted = [fact_id for fact_id, file in files.items() if read_json(file)["suite"]["dataset"] == suite.dataset]
    return [at.get(EvalReport, fact_id) for fact_id in wanted]


def board(at: Workspace, of: str = "last") -> Board:
    """Everybody that was measured on one suite, the best first: of a sweep, or of the suite of a report or data set."""
    from llmops.experiments.board import differing, rank
    from llmops.pipeline.sweeps import board_of

    if of.startswith(f"{Sweep.prefix}-"):
        return board_of(at.get(Sweep, of), at)
    newest = report_of(of, at)
    reports = {report.id: report for report in _reports_on(newest.suite, at) if report.suite == newest.suite}
    lines = [
        BoardLine(
            name=report.subject.kind,
            subject=report.subject,
            status="measured",
            report=report.id,
            seconds=at.run(run).seconds if (run := _run_of(report, at)) else None,
        )
        for report in reports.values()
    ]
    tuned = list(dict.fromkeys(line.subject.ref for line in lines if line.subject and line.subject.kind == "tuned"))
    apart = differing([_plan_of(ref, at).recipe.to_json() for ref in tuned])
    names = {
        ref: ", ".join([ref, *(f"{field}={values[place]}" for field, values in apart.items())])
        for place, ref in enumerate(tuned)
    }
    return rank(
        [line.replace(name=names.get(line.subject.ref if line.subject else "", line.name)) for line in lines], reports
    )


def _plan_of(ref: str, at: Workspace) -> Plan:
    """The plan behind the ref of a report's subject: a plan (cheap rows), a version or a run."""
    return at.get(Plan, ref) if ref.startswith(f"{Plan.prefix}-") else subject_of(ref, at)[1]


def line_up(refs: Sequence[str], at: Workspace, metric: str | None = None) -> LineUp:
    """Any two or more runs or versions side by side; each is compared with the first."""
    from llmops.experiments.board import check_suites, compare_all, curve, differing, flips

    if len(refs) < 2:
        raise RequestError("one alone has nobody to stand beside", "name two runs or versions, or more")
    reports = [report_of(ref, at) for ref in refs]
    plans = [_plan_of(report.subject.ref, at) for report in reports]
    runs = [_run_of(report, at) for report in reports]
    columns = tuple(
        Column(
            ref=ref,
            subject=report.subject,
            report=report.id,
            plan=planned.id,
            dataset=planned.dataset,
            scores={name: score.replace(slices={}) for name, score in report.scores.items()},
            curve=curve(run, records) if run and (records := at.steps(run)) else None,
        )
        for ref, report, planned, run in zip(refs, reports, plans, runs, strict=True)
    )
    note = check_suites(columns, reports)
    compared = () if note else compare_all(reports, metric)
    for one in compared:
        at.put(one)
    count, shown = (0, ()) if note else flips(reports, compared[0].metric)
    return LineUp(
        columns=columns,
        recipe=differing([planned.recipe.to_json() for planned in plans]),
        plan=differing([{"dataset": one.dataset, "base": one.base.to_json(), **one.knobs.to_json()} for one in plans]),
        comparisons=compared,
        flipped=count,
        flips=shown,
        note=note,
    )


def _run_of(report: EvalReport, at: Workspace) -> str | None:
    """The run that made what a report measured; cheap rows have none."""
    ref = report.subject.ref
    if report.subject.kind != "tuned":
        return None
    return next((version.run for version in at.versions() if version.ref == ref), ref)


def slices(ref: str, at: Workspace, metric: str | None = None) -> Slices:
    """Where a run, a version or a report is weak: slices by field, length and topic, the worst first."""
    from llmops.evals.slices import find_slices

    return find_slices(report_of(ref, at), metric)


def calibrate(ref: str, at: Workspace) -> Calibration:
    """How reliable the probabilities of a run, a version or a report are, and the temperature that mends them."""
    from llmops.evals.calibration import calibrate as fit

    return fit(_with_chances(ref, at))


def abstention(ref: str, error: float, at: Workspace) -> Abstention:
    """The threshold above which at most the share `error` of a model's answers is wrong, with 95 % confidence."""
    from llmops.evals.calibration import abstain

    return abstain(_with_chances(ref, at), error)


def promised(found: Abstention) -> Abstention:
    """The same, or `LlmopsError` where no threshold keeps the promise."""
    if found.threshold is None:
        raise LlmopsError(
            f"no threshold promises at most {100 * found.error:g} % wrong answers, "
            f"by the {found.n:,} rows of {found.report}",
            "allow more errors, or hold out more rows",
        )
    return found


def _with_chances(ref: str, at: Workspace) -> EvalReport:
    """The report that is named, or the newest of a run or version that holds probabilities of labels."""
    if ref == "last" or ref.startswith(f"{EvalReport.prefix}-"):
        return report_of(ref, at)
    subject, _, _ = subject_of(ref, at)
    kept = [at.get(EvalReport, version.report) for version in at.versions() if version.ref == subject.ref]
    found = [one for one in (*kept, *at.reports_of(subject.ref)) if any(answer.chances for answer in one.answers)]
    return found[-1] if found else report_of(ref, at)
