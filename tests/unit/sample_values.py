"""Small values for tests: a plan, reports with chosen marks, exchanges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from llmops.core.context import Surroundings
from llmops.core.dataset import Message, Row
from llmops.core.made_up import KNOBS, made_up_plan, made_up_recipe
from llmops.core.method import LoRA
from llmops.core.plan import Plan
from llmops.core.report import Answer, EvalReport, Score, Subject, SubjectKind, Suite
from llmops.core.serving import Exchange, Feedback, Sampling
from llmops.store.workspace import Workspace

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
LABELS = ("bad", "good")
METHOD = LoRA(rank=8, alpha=16.0, dropout=0.0, rank_stabilised=False, initialisation="default")


class Clock:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def later(self, minutes: float) -> None:
        self.now += timedelta(minutes=minutes)


def workspace(folder: Path, clock: Clock | None = None, said: list[str] | None = None) -> Workspace:
    world = Surroundings(clock=clock or Clock(), say=(said if said is not None else []).append, author="ada")
    return Workspace.find(folder, world, environ={})


def row(number: int, text: str, label: str) -> Row:
    messages = (Message(role="user", content=text), Message(role="assistant", content=label))
    return Row(id=f"r{number}", messages=messages, text=text, label=label, group=str(number), source="s", line=number)


def plan(name: str = "tone") -> Plan:
    knobs = KNOBS.replace(method=METHOD, batch_rows=8, steps=10, template="base", checkpoint_every=5)
    return made_up_plan(made_up_recipe(name, LABELS), "ds-1", knobs)


def report(
    kind: SubjectKind,
    marks: Sequence[float],
    metric: str = "accuracy",
    ref: str | None = None,
    weights: Sequence[float] | None = None,
    fields: Sequence[Mapping[str, str]] | None = None,
    suite: Suite | None = None,
) -> EvalReport:  # a test helper may have more knobs than a verb
    """A report of rows r0, r1, ... with these marks; its score is their (weighted) mean."""
    shares = list(weights or [1.0] * len(marks))
    value = sum(mark * share for mark, share in zip(marks, shares, strict=True)) / sum(shares)
    answers = tuple(
        Answer(
            row=f"r{number}",
            prompt="?",
            expected="good",
            answered="good",
            marks={metric: mark},
            weights={metric: shares[number]} if weights else {},
            fields=dict(fields[number]) if fields else {},
        )
        for number, mark in enumerate(marks)
    )
    slices = tuple(sorted({name for entry in fields or () for name in entry}))
    return EvalReport(
        subject=Subject(kind=kind, ref=ref or kind),
        suite=suite or Suite(dataset="ds-1", rows_sha256="0" * 64, measures=(metric,), slices=slices),
        scores={metric: Score(metric=metric, value=value, low=0.0, high=1.0, n=len(marks))},
        answers=answers,
    )


def share(right: int, of: int) -> list[float]:
    """Marks of `right` right answers, then wrong ones."""
    return [1.0] * right + [0.0] * (of - right)


def exchange(number: int, at: datetime, version: str = "tone:1", **changes: object) -> Exchange:
    plain = Exchange(
        id=f"ex-{number}",
        version=version,
        at=at,
        prompt_sha256="0" * 64,
        sampling=Sampling(),
        prompt_tokens=10,
        answer_tokens=5,
        first_token_s=0.1,
        total_s=0.5,
        finish="stop",
        messages=(Message(role="user", content=f"question {number}"),),
        answer=f"answer {number}",
    )
    return plain.replace(**changes)


def feedback(number: int, at: datetime, author: str = "ada", **said: str) -> Feedback:
    return Feedback(exchange=f"ex-{number}", author=author, at=at, **said)
