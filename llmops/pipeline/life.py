"""`run`: the whole life of a model in one verb, made of the others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from llmops.core.comparison import Comparison
from llmops.core.errors import Refusal, RequestError
from llmops.core.method import PromptTuning
from llmops.core.outcome import ComparisonLine, Outcome, SideBySide
from llmops.core.plan import Plan, Wishes
from llmops.core.recipe import Recipe
from llmops.core.report import EvalReport, Score
from llmops.core.run import Run
from llmops.core.tasks import Classify
from llmops.core.version import ModelVersion, Promotion, champion
from llmops.pipeline.judge import compare, evaluate, measure_cheap, pick, promote, register
from llmops.pipeline.make import plan, prepare, train, unfinished
from llmops.pipeline.subjects import keepable
from llmops.pipeline.use import ask_held_out, side_by_side
from llmops.store.files import write_json
from llmops.store.workspace import Workspace
from llmops.training.processes import is_member
from llmops.training.trackers import check_tracker


def run(recipe: Recipe, at: Workspace, wishes: Wishes = Wishes(), resume: str | None = None) -> Outcome:
    """Prepare, plan, train, evaluate beside the cheap rows, compare, pick, register, promote, ask the endpoint.

    `resume` names a run of this recipe to go on with, interrupted or trained. The outcome is stored with the run.
    """
    if is_member():
        raise RequestError(
            "the whole life of a model is walked by one process, and torchrun started several",
            "give --processes N instead, or start 'llmops train PLAN' with torchrun",
        )
    spent: dict[str, float] = {}
    check_tracker(wishes.tracker)
    planned, trained = _trained(recipe, at, wishes, resume, spent)
    with _timed("cheap rows", spent):
        reports = measure_cheap(planned, at)
    with _timed("tuned row", spent):
        reports["tuned"] = evaluate(trained.id, at)
    comparisons = _comparisons(reports, at)
    picked = pick(list(reports.values()))
    with _timed("register", spent):
        tuned = register(reports["tuned"].id, at)
        chosen, promoted = tuned, f"Nothing is promoted: {picked.subject.kind} is not kept as a version."
        if picked.subject.kind in keepable(recipe.task):
            chosen = register(reports[picked.subject.kind].id, at)
        if chosen.kind == picked.subject.kind:
            promoted = _promoted(chosen, at)
    endpoint = None
    if isinstance(recipe.task, Classify) and not isinstance(recipe.method, PromptTuning):  # which no engine can hold
        with _timed("endpoint", spent):
            endpoint = ask_held_out(tuned.ref, at)
    answers: tuple[SideBySide, ...] = ()
    if recipe.evaluation.prompts:
        with _timed("side by side", spent):
            answers = tuple(side_by_side(trained.id, at))
    result = Outcome(
        name=recipe.name,
        version=chosen.ref,
        tuned_version=tuned.ref,
        promoted=promoted,
        run=trained.id,
        plan=planned.id,
        dataset=planned.dataset,
        seconds=spent,
        scores=_main_scores(reports),
        more_scores={name: report.scores for name, report in reports.items()},
        comparisons=comparisons,
        pick=picked,
        endpoint=endpoint,
        answers=answers,
        reports={name: report.id for name, report in reports.items()},
    )
    write_json(at.run_folder(trained.id) / "outcome.json", result.to_json())
    return result


def _trained(
    recipe: Recipe, at: Workspace, wishes: Wishes, resume: str | None, spent: dict[str, float]
) -> tuple[Plan, Run]:
    """The plan and its finished run. Raises `unfinished` where training was stopped."""
    if resume is None:
        with _timed("prepare", spent):
            manifest = prepare(recipe, at)
        with _timed("plan", spent):
            planned = plan(recipe, manifest, at, wishes)
    else:
        planned = at.get(Plan, at.run(resume).plan)
        if planned.recipe != recipe:
            what = f"run {at.run(resume).id} is of another recipe than this {recipe.name!r}"
            raise RequestError(what, "resume it with the recipe it was started with, --set options included")
    trained = train(planned, at, resume)
    spent["train"] = round(trained.seconds, 2)  # over all its starts
    if trained.status != "finished":
        raise unfinished(trained, f"go on with the same command and --resume {trained.id}")
    return planned, trained


def _promoted(version: ModelVersion, at: Workspace) -> str:
    """What became of the promotion, in a sentence; a refusal is an outcome, not a failure."""
    now = champion(tuple(at.ledger.read(Promotion, version.name)), version.name)
    if now is not None and now.version == version.number:
        return f"{version.ref} answers as production already."
    try:
        return f"{version.ref} answers as production. {promote(version.ref, at).because}"
    except Refusal as refusal:
        return refusal.what


def _main_scores(reports: dict[str, EvalReport]) -> dict[str, Score]:
    """Each row's score by the measure that decides; a row without it has no place in that column."""
    decides = reports["tuned"].suite.measures[0]
    return {name: report.scores[decides] for name, report in reports.items() if decides in report.scores}


def _comparisons(reports: dict[str, EvalReport], at: Workspace) -> tuple[ComparisonLine, ...]:
    """Tuned against every other row, by every measure that both have for each answer."""
    tuned = reports["tuned"]
    return tuple(
        _line(name, compare(report.id, tuned.id, at, measure))
        for name, report in reports.items()
        for measure in tuned.suite.measures
        if name != "tuned" and measure in report.answers[0].marks and measure in tuned.answers[0].marks
    )


def _line(name: str, found: Comparison) -> ComparisonLine:
    overall = found.overall
    return ComparisonLine(
        baseline=name,
        metric=found.metric,
        delta=overall.delta,
        low=overall.low,
        high=overall.high,
        p=overall.p,
        verdict=found.verdict,
    )


@contextmanager
def _timed(stage: str, spent: dict[str, float]) -> Iterator[None]:
    """Add the seconds of a stage to `spent`."""
    began = time.perf_counter()
    yield
    spent[stage] = round(time.perf_counter() - began, 2)
