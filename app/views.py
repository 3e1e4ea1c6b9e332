"""What more than one tab reads from the workspace. Facts never change, so a report that was read once is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from llmops.core.dataset import DatasetManifest
from llmops.core.errors import LlmopsError
from llmops.core.examined import Examined
from llmops.core.outcome import Outcome
from llmops.core.plan import Plan
from llmops.core.report import EvalReport
from llmops.core.run import Run
from llmops.core.version import ModelVersion
from llmops.store.workspace import Workspace


@dataclass(frozen=True)
class Panel:
    """A tab as `main` sees it: the function that reads the workspace anew, what it draws into and what it is given."""

    outputs: Sequence[Any]
    refresh: Callable[..., Any]
    inputs: Sequence[Any] = ()


@lru_cache(maxsize=64)
def report(at: Workspace, report_id: str) -> EvalReport:
    """One report with its answers."""
    return at.get(EvalReport, report_id)


def examined(at: Workspace, report_id: str) -> Examined | None:
    """The exam and the ledger of a report's model, read anew: both can be made after the report."""
    from llmops import pipeline

    return pipeline.examined(report_id, at)


def runs(at: Workspace) -> list[Run]:
    """Every run that can be read, newest first."""
    found = []
    for run_id in at.run_ids():
        try:
            found.append(at.run(run_id))
        except (LlmopsError, ValueError, KeyError):
            continue  # half written or damaged: not listed here; `llmops show` says what is wrong with it
    return sorted(found, key=lambda run: run.created, reverse=True)


def outcome(at: Workspace, run_id: str) -> Outcome | None:
    """What a run came to; None where it has not finished."""
    from llmops import pipeline

    if not (at.run_folder(run_id) / "outcome.json").exists():
        return None
    return pipeline.outcome(run_id, at)


def last_outcome(at: Workspace) -> Outcome | None:
    """The outcome of the newest run that has one."""
    for run in runs(at):
        found = outcome(at, run.id)
        if found is not None:
            return found
    return None


def speakers(at: Workspace) -> list[tuple[str, str]]:
    """(label, reference) of everything that can be talked to: tuned versions, newest first, then their bases."""
    known = sorted(at.versions(), key=lambda one: -(at.version_folder(one.ref) / "version.json").stat().st_mtime)
    tuned = [version for version in known if version.kind in ("tuned", "base")]
    bases = dict.fromkeys(version.base for version in tuned)
    return [(f"{version.ref} ({version.kind})", version.ref) for version in tuned] + [
        (f"{base} (base)", base) for base in bases
    ]


def version(at: Workspace, ref: str) -> ModelVersion | None:
    """The version of a `name:number`; None for a base."""
    return next((item for item in at.versions() if item.ref == ref), None)


def prompts(at: Workspace, refs: Sequence[str], most: int = 8) -> list[str]:
    """Ready prompts for the first of these versions that knows any: its recipe's own, else held-out texts."""
    for ref in refs:
        found = version(at, ref)
        if found is None:
            continue
        try:
            own = list(at.get(Plan, found.plan).recipe.evaluation.prompts)
            if not own and found.task.kind == "classify":
                own = [row.text for row in at.rows(found.dataset, "heldout")[:most]]
        except LlmopsError:
            continue  # the plan or the rows were deleted: there are no ready prompts, the chat still works
        if own:
            return own[:most]
    return []


def datasets(at: Workspace) -> list[tuple[str, str]]:
    """(label, id) of every data set, newest first."""
    return [
        (f"{manifest.name}, {manifest.rows_train} to train, {manifest.rows_heldout} held out", manifest.id)
        for manifest in reversed(at.all(DatasetManifest))
    ]
