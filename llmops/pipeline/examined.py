"""What was asked of a tuned model besides its score, found again: its newest exam and its newest ledger.

Both are about the weights, so a run and the version that was made of it share them, whichever of their reports they
lie beside.
"""

from __future__ import annotations

from typing import Any, TypeVar

from llmops.core.errors import LlmopsError, RequestError
from llmops.core.exam import Exam
from llmops.core.examined import Examined
from llmops.core.forgetting import Forgetting
from llmops.core.plan import Plan
from llmops.core.report import EvalReport, Subject
from llmops.core.run import Run
from llmops.core.tasks import Rate
from llmops.core.version import ModelVersion
from llmops.pipeline.look import show
from llmops.pipeline.subjects import subject_of
from llmops.store.files import read_json, stored
from llmops.store.workspace import Workspace

EXAM, FORGETTING = "exam.json", "forgetting.json"  # beside a report
Asked = TypeVar("Asked", Exam, Forgetting)


def examined(ref: str, at: Workspace) -> Examined | None:
    """The newest exam and ledger of a run, a version or the subject of a report, and the commands that make them.

    None for whatever is no tuned model: a plan, a cheap row, a run that has not finished.
    """
    found = show(ref, at)
    if isinstance(found, Run):
        return _of(found.id, at) if found.status == "finished" else None
    if isinstance(found, ModelVersion):
        return _of(found.ref, at) if found.kind == "tuned" else None
    if isinstance(found, EvalReport) and found.subject.kind == "tuned":
        return _of(found.subject.ref, at)
    return None


def _of(name: str, at: Workspace) -> Examined:
    """Of a tuned model by one of its names, its run's or a version's."""
    names = names_of(name, at)
    return Examined(
        ref=name if ":" in name else names[0],
        exam=_newest(Exam, EXAM, names, at),
        forgetting=_newest(Forgetting, FORGETTING, names, at),
        cannot_sit=_why_not(name, at),
    )


def names_of(name: str, at: Workspace) -> list[str]:
    """The run and the versions that are the same weights, the newest version first."""
    versions = [*reversed(at.versions())]
    run = next((one.run for one in versions if one.ref == name), name)
    same = [one.ref for one in versions if one.ref == name or (run is not None and one.run == run)]
    return list(dict.fromkeys([*same, name, *([run] if run else [])]))


def _newest(kind: type[Asked], file: str, names: list[str], at: Workspace) -> Asked | None:
    """The newest of the files beside reports that is about one of these names."""
    paths = sorted(at.folder(EvalReport, "").glob(f"*/{file}"), key=lambda path: -path.stat().st_mtime_ns)
    kept = ((read_json(path), path) for path in paths)
    # Whose it is comes first: what another release wrote of another model is in nobody's way.
    return next((stored(kind, data, path) for data, path in kept if _whose(data) in names), None)


def _whose(data: Any) -> object:
    subject = data.get("subject") if isinstance(data, dict) else None
    return subject.get("ref") if isinstance(subject, dict) else None


def _why_not(name: str, at: Workspace) -> str | None:
    """Why it cannot sit an exam; None where it can."""
    try:
        subject, plan, _ = subject_of(name, at)
        check_can_sit(subject, plan)
    except LlmopsError as error:  # a plan that another release wrote, too
        return error.what
    return None


def check_can_sit(subject: Subject, plan: Plan) -> None:
    """Raise `RequestError` where there is no tuned model, or it learned what the exam cannot mark."""
    if subject.kind != "tuned":
        raise RequestError(
            f"{subject.ref} is a {subject.kind} row, which has no base to compare with", "name a tuned one"
        )
    if plan.recipe.objective.kind != "sft" or isinstance(plan.recipe.task, Rate):
        what = f"{subject.ref} learned task {plan.recipe.task.kind!r} by {plan.recipe.objective.kind!r}"
        raise RequestError(f"{what}, which the exam cannot mark", "examine a model of labels, replies or texts by sft")
