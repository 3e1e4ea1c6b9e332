"""The leak gate where it counts: before training, and at every evaluation."""

from __future__ import annotations

from llmops.core.dataset import DatasetManifest
from llmops.core.errors import LlmopsError
from llmops.core.findings import Inflation, Leaks
from llmops.core.plan import Plan
from llmops.core.report import EvalReport
from llmops.core.review import LeakGate
from llmops.core.value import digest
from llmops.store.files import read_json, read_jsonl, stored, verify_folder, write_json
from llmops.store.workspace import Workspace

INFLATION = "leaks.json"  # beside a report


def leaks_between(trained: str, asked: str, gate: LeakGate, at: Workspace) -> Leaks:
    """The training rows of one data set that say what a held-out row of another (or of the same) says.

    Facts do not change, so what was found is kept beside the training rows.
    """
    from llmops.data.leaks import find_leaks, spoken

    mine, theirs = at.get(DatasetManifest, trained), at.get(DatasetManifest, asked)
    folder, other = at.folder(DatasetManifest, mine.id), at.folder(DatasetManifest, theirs.id)
    kept = folder / "leaks" / f"{theirs.id}-{digest(gate.to_json())[:8]}.json"
    if kept.exists():
        return stored(Leaks, read_json(kept), kept)
    verify_folder(folder, {"train.jsonl": mine.files["train.jsonl"]})
    verify_folder(other, {"heldout.jsonl": theirs.files["heldout.jsonl"]})
    train = (spoken(row, gate.same) for row in read_jsonl(folder / "train.jsonl"))
    heldout = (spoken(row, gate.same) for row in read_jsonl(other / "heldout.jsonl"))
    found = find_leaks(train, heldout, gate, theirs.id)
    write_json(kept, found.to_json())
    return found


def check_before_training(plan: Plan, at: Workspace) -> None:
    """Say which rows leak into the plan's held-out rows, and into those of every suite that was evaluated here.

    Raises `LlmopsError` where they leak into its own, and the recipe wants them gone: then the set was not repaired.
    Near matches are said only: `prepare` keeps those that look like the pattern by which the rows were made.
    """
    gate = plan.recipe.data.leaks
    own = leaks_between(plan.dataset, plan.dataset, gate, at)
    if any(leak.kind != "near" for leak in own.found) and gate.then == "repair":
        raise LlmopsError(
            f"{_told(own)} of the held-out rows of {plan.dataset}",
            "prepare and plan the recipe again, or set data.leaks.then to report",
        )
    for found in (own, *(leaks_between(plan.dataset, suite, gate, at) for suite in _other_suites(plan, at))):
        if found.found:
            at.world.say(f"leak gate: {_told(found)} of the held-out rows of {found.against}")


def check_report(report: EvalReport, plan: Plan, at: Workspace) -> Inflation | None:
    """What the report owes to leaks, kept beside it and said; None where nothing leaked."""
    from llmops.evals.inflation import inflation

    found = leaks_between(plan.dataset, report.suite.dataset, plan.recipe.data.leaks, at)
    if not found.touched:
        return None
    made = inflation(report, set(found.touched), found.against)
    write_json(at.folder(EvalReport, report.id) / INFLATION, made.to_json())
    at.world.say(f"leak gate: {_told(found)} of the held-out rows of {found.against}; {told(made)}")
    return made


def inflation_of(report: str, at: Workspace) -> Inflation | None:
    """What a stored report owes to leaks; None where nothing leaked."""
    path = at.folder(EvalReport, at.get(EvalReport, report).id) / INFLATION
    return stored(Inflation, read_json(path), path) if path.exists() else None


def told(made: Inflation) -> str:
    """The inflation in a sentence."""
    if made.inflation is None or made.leaked is None or made.clean is None:
        return f"every row leaked, so the {made.metric} says nothing"
    by = made.inflation
    return (
        f"{made.metric} is {made.leaked.value:.3f} on the {made.leaked.n:,} that leaked and {made.clean.value:.3f} on "
        f"the {made.clean.n:,} others: inflated by {by.value:+.3f} ({by.low:+.3f} to {by.high:+.3f})"
    )


def _told(found: Leaks) -> str:
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.kinds.items())
    return f"{len(found.found):,} training rows ({kinds}) say what is said in {len(found.touched):,}"


def _other_suites(plan: Plan, at: Workspace) -> list[str]:
    """The data sets, other than the plan's, whose held-out rows were evaluated here and are still there."""
    reports = (read_json(at.folder(EvalReport, report) / "report.json") for report in at.ids(EvalReport))
    asked = {str(report["suite"]["dataset"]) for report in reports}
    return sorted((asked & set(at.ids(DatasetManifest))) - {plan.dataset})
