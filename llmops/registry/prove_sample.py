"""What the proofs of the registry register and promote: a made-up plan, and reports with chosen marks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from llmops.core.context import Surroundings
from llmops.core.made_up import made_up_plan, made_up_recipe
from llmops.core.plan import Plan
from llmops.core.report import Answer, EvalReport, Score, Subject, SubjectKind, Suite
from llmops.store.files import write_text
from llmops.store.workspace import Workspace

NAME = "proof"
DATASET = "ds-000000000000"
LABELS = ("bad", "good")


def sample_workspace(folder: Path, url: str | None = None) -> Workspace:
    """A workspace of its own, with a ledger of its own."""
    environ = {"LLMOPS_DATABASE_URL": url} if url else {}
    return Workspace.find(folder, Surroundings(author="proof"), environ=environ)


def sample_plan() -> Plan:
    """A plan made by hand: nothing is trained by it."""
    return made_up_plan(made_up_recipe(NAME, LABELS), DATASET)


def sample_report(marks: Sequence[bool], ref: str = "a", kind: SubjectKind = "tfidf") -> EvalReport:
    """What a model of this kind had right of as many rows."""
    answers = tuple(
        Answer(row=f"r{number}", prompt="?", expected="good", answered="good", marks={"accuracy": float(mark)})
        for number, mark in enumerate(marks)
    )
    value = sum(marks) / len(marks)
    return EvalReport(
        subject=Subject(kind=kind, ref=ref),
        suite=Suite(dataset=DATASET, rows_sha256="0" * 64, measures=("accuracy",), slices=()),
        scores={"accuracy": Score(metric="accuracy", value=value, low=0.0, high=1.0, n=len(marks))},
        answers=answers,
    )


def some_files(text: str = "weights") -> Callable[[Path], None]:
    """Writes a version's files: two of them, so that one may be there without the other."""

    def write(folder: Path) -> None:
        for name in ("head.safetensors", "settings.json"):
            write_text(folder / name, text)

    return write
