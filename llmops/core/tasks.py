"""What a model shall do."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from llmops.core.sources import Text
from llmops.core.value import Value


class Classify(Value):
    """One of a few labels for a text."""

    kind: Literal["classify"] = "classify"
    question: Text = Field(description="put before each text")
    labels: tuple[str, ...] = Field(min_length=2, description="every label; each must occur in the rows")

    @model_validator(mode="after")
    def _labels_differ(self) -> Classify:
        if len({label.strip().lower() for label in self.labels}) != len(self.labels):
            raise ValueError("two labels are the same word")
        if any(not label.strip() for label in self.labels):
            raise ValueError("a label is empty")
        return self


class Rate(Value):
    """A number for a text (regression); the model says it in digits."""

    kind: Literal["rate"] = "rate"
    question: Text = Field(description="put before each text")
    decimals: int = Field(1, ge=0, le=6, description="digits behind the point in what is learned and said")


Measure = Literal["bits_per_byte", "pick_reply", "exact_match", "preference", "reward_accuracy", "absolute_error"]


class Reply(Value):
    """A reply to a conversation."""

    kind: Literal["reply"] = "reply"
    system: str | None = Field(None, description="system prompt put before each conversation; none by default")
    measures: tuple[Measure, ...] = Field(
        ("bits_per_byte",), min_length=1, description="what is measured; the first decides"
    )
    opening: str | None = Field(None, description="field whose equal values give pick_reply its wrong replies")


class Continue(Value):
    """Running text, gone on with: pretraining continued on a domain's own texts. Every token is learned."""

    kind: Literal["continue"] = "continue"


Task = Annotated[Classify | Rate | Reply | Continue, Field(discriminator="kind")]


def measures_of(task: Task) -> tuple[str, ...]:
    """What is measured of a task on its held-out rows; the first decides."""
    if isinstance(task, Reply):
        return task.measures
    return MEASURES_OF[task.kind]


# What is measured where a task leaves no choice.
MEASURES_OF: dict[str, tuple[str, ...]] = {
    "classify": ("accuracy", "macro_f1"),
    "rate": ("absolute_error",),
    "continue": ("bits_per_byte",),
}

# The shapes that a task can be learned from.
SHAPES_OF: dict[str, frozenset[str]] = {
    "classify": frozenset(("labelled",)),
    "rate": frozenset(("rated",)),
    "reply": frozenset(("prompt_reply", "alpaca", "conversation", "sharegpt", "preference", "thumbs")),
    "continue": frozenset(("text",)),
}
