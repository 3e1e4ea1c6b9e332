"""`Forgetting`: what a base could do and its tuned model can not any more, with intervals; and what would help."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from llmops.core.findings import Estimate
from llmops.core.report import Subject
from llmops.core.value import Fact, Value

Fate = Literal["kept", "lost", "cannot tell"]
BY_ROWS = ("general text", "multiple choice")  # abilities that can be asked with more rows; the others' are fixed


class Instance(Value):
    """One thing that was asked, answered before and after."""

    asked: str
    before: str
    after: str


class Ability(Value):
    """One ability before and after. `change` is paired, and above 0 for the better, whatever the measure.

    `lost` where the whole interval is below minus the margin, `kept` where it is above it.
    """

    name: str
    measure: str
    about: str
    n: int
    before: float
    after: float
    change: Estimate
    margin: float = Field(description="a smaller loss is none")
    examples: tuple[Instance, ...] = Field((), max_length=3, description="what went wrong that had gone well")

    @property
    def fate(self) -> Fate:
        """What the interval says."""
        if self.change.high < -self.margin:
            return "lost"
        return "kept" if self.change.low > -self.margin else "cannot tell"


class Suggestion(Value):
    """A knob of the plan to turn, in the order in which to try them, and how to say it on the command line."""

    knob: str
    now: str
    take: str
    sets: tuple[str, ...] = Field(description="FIELD=VALUE, as --set takes it")
    because: str


class Forgetting(Fact):
    """The ledger of one tuned model against its base."""

    prefix: ClassVar[str] = "fg"

    subject: Subject
    base: str
    plan: str
    general_text: str = Field(description="source of the texts that were read")
    abilities: tuple[Ability, ...]
    suggestions: tuple[Suggestion, ...] = ()

    @property
    def lost(self) -> tuple[Ability, ...]:
        """What is surely lost."""
        return tuple(ability for ability in self.abilities if ability.fate == "lost")

    @property
    def fate(self) -> Fate:
        """Of all abilities together: lost where one is, kept where all are."""
        if self.lost:
            return "lost"
        return "kept" if all(ability.fate == "kept" for ability in self.abilities) else "cannot tell"

    @property
    def because(self) -> str:
        """The verdict for a reader who reads one line."""
        if self.lost:
            return f"lost: {', '.join(ability.name for ability in self.lost)}"
        unsure = [ability.name for ability in self.abilities if ability.fate == "cannot tell"]
        return f"nothing is surely lost; cannot tell: {', '.join(unsure)}" if unsure else "nothing is lost"

    @property
    def advice(self) -> str | None:
        """What would settle it, where it cannot be told."""
        unsure = [ability for ability in self.abilities if ability.fate == "cannot tell" and ability.name in BY_ROWS]
        if self.lost or not unsure:
            return None
        rows = 4 * max(ability.n for ability in unsure)
        return f"more texts and questions may tell: llmops evaluate {self.subject.ref} --forgetting --rows {rows}"
