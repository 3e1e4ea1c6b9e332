"""What the proofs of the registry register and promote: a made-up plan, and reports with chosen marks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from llmops.core.context import Surroundings
from llmops.core.method import SFT, LoRA
from llmops.core.plan import BaseModelRecord, Decision, Knobs, Plan, leaves
from llmops.core.recipe import Recipe
from llmops.core.report import Answer, EvalReport, Score, Subject, SubjectKind, Suite
from llmops.core.sources import Data, Labelled, Source
from llmops.core.tasks import Classify
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
    source = Source(from_="path:rows.csv", shape=Labelled())
    recipe = Recipe(name=NAME, data=Data(sources=(source,)), task=Classify(question="Good or bad?", labels=LABELS))
    knobs = Knobs(
        method=LoRA(rank=2, alpha=4.0, dropout=0.0, rank_stabilised=False, initialisation="default"),
        objective=SFT(roles=()),
        targets=("q_proj",),
        learning_rate=0.001,
        schedule="linear",
        warmup_share=0.1,
        weight_decay=0.0,
        clip_norm=1.0,
        epochs=1.0,
        batch_rows=4,
        steps=4,
        max_tokens=64,
        precision="float32",
        gradient_checkpointing=False,
        attention="sdpa",
        decoder="plain",
        template="plain",
        device="cpu",
        threads=1,
        processes=1,
        shard="none",
        pack_tokens=64,
        max_memory_bytes=2**40,
        checkpoint_every=4,
        look_every=0,
        patience=0,
        tracker="none",
        seed=0,
    )
    return Plan(
        recipe=recipe,
        dataset=DATASET,
        base=BaseModelRecord(name="made-up", sha256="0" * 64, family="llama", parameters=1),
        knobs=knobs,
        decisions=tuple(Decision(field=field, value=value, because="a proof") for field, value in leaves(knobs)),
        train_tokens=1,
        seconds_expected=1.0,
        memory_bytes_expected=1,
    )


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
