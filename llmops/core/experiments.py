"""`Sweep`, `Board` and `LineUp`: recipes that differ in a few knobs, ranked, and any runs or versions side by side."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from llmops.core.comparison import Comparison, Difference
from llmops.core.plan import Wishes
from llmops.core.recipe import Recipe
from llmops.core.report import Score, Subject
from llmops.core.value import Fact, Value


class Knob(Value):
    """A field of a recipe by its dotted name, and the values to try, as `--set` takes them."""

    field: str
    values: tuple[str, ...] = Field(min_length=1)


class Member(Value):
    """One recipe of a sweep: what it changes, and its plan."""

    sets: tuple[str, ...]
    plan: str

    @property
    def name(self) -> str:
        """`method.rank=4, training.learning_rate=0.001`."""
        return ", ".join(self.sets)


class Sweep(Fact):
    """Every combination of some knobs, planned before the first is trained.

    It holds no state: what became of a member is what became of the runs of its plan. So an interrupted sweep goes on
    by being asked for again.
    """

    prefix: ClassVar[str] = "sw"

    recipe: Recipe
    knobs: tuple[Knob, ...]
    wishes: Wishes
    members: tuple[Member, ...]
    jobs: int = Field(ge=1, description="members that train at a time")
    because: str = Field(description="why so many")


MemberStatus = Literal["waiting", "training", "interrupted", "failed", "trained", "measured"]


class BoardLine(Value):
    """One of those that were ranked. `against_best` is it minus the best, paired, Holm's p over all lines."""

    name: str
    subject: Subject | None
    status: MemberStatus
    report: str | None = None
    score: Score | None = None
    against_best: Difference | None = None
    seconds: float | None = Field(None, description="spent training")
    note: str = ""


class Board(Value):
    """Subjects that were measured on one suite, the best first, then those that have no score yet."""

    suite: str | None
    metric: str | None
    sweep: str | None = None
    lines: tuple[BoardLine, ...]


class Curve(Value):
    """The losses of a run, nats; `steps` are the last of the steps that each mean is over."""

    run: str
    steps: tuple[int, ...]
    loss_nats: tuple[float, ...]
    heldout: tuple[tuple[int, float], ...] = Field(description="(step, loss of the watched rows)")


class Column(Value):
    """One of those that stand side by side."""

    ref: str
    subject: Subject
    report: str
    plan: str
    dataset: str
    scores: dict[str, Score]
    curve: Curve | None


class Flip(Value):
    """A row that not all of them have right, or, of graded marks, that they disagree on."""

    row: str
    prompt: str
    expected: str
    answered: tuple[str, ...]
    marks: tuple[float, ...]


class LineUp(Value):
    """Any two or more runs or versions: how they differ in recipe and plan, how they learned, what they answer.

    Each is compared with the first; Holm's p over all comparisons. Empty `flips` where suites differ.
    """

    columns: tuple[Column, ...]
    recipe: dict[str, tuple[str, ...]] = Field(description="field: its value in each, where they differ")
    plan: dict[str, tuple[str, ...]] = Field(description="decided knob: its value in each, where they differ")
    comparisons: tuple[Comparison, ...]
    flipped: int = Field(description="rows that not all answer alike well")
    flips: tuple[Flip, ...] = Field(description="the first of them, those most disagreed on before others")
    note: str = ""
