"""Suites: questions that any model can be asked, and how they are asked. The digest is that of `core/report.py: Suite`.

A question is rendered once, where it is made: its `id` is a hash of all that the model will see and of what is
expected, so a suite that holds the ids of its questions, in order, holds their prompts.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from llmops.core.dataset import Message
from llmops.core.scorers import Scorer, measures_of_scorer
from llmops.core.serving import Sampling
from llmops.core.value import Value, digest


class Question(Value):
    """One question: a `text` to go on with, or `messages` for the model's chat template; what is right; whose it is.

    `options` are the continuations to choose among, as they stand behind the text (with their leading space); none
    where the answer is generated. `expected` holds every right answer; of options, the right ones.
    `group` says which questions share a source and are not independent; by default each stands for itself.
    """

    id: str
    text: str = ""
    messages: tuple[Message, ...] = ()
    options: tuple[str, ...] = ()
    expected: tuple[str, ...] = Field(min_length=1)
    fields: dict[str, str] = Field(default_factory=dict)
    group: str

    @model_validator(mode="after")
    def _is_whole(self) -> Question:
        if self.text and self.messages:
            raise ValueError("a question is a text or messages, not both")
        if self.options and not set(self.expected) <= set(self.options):
            raise ValueError("what is expected is none of the options")
        if len(set(self.options)) != len(self.options):
            raise ValueError("two options are the same")
        return self

    @property
    def asked(self) -> str:
        """The question as a person reads it."""
        return self.text or "\n\n".join(message.content for message in self.messages)


def make_question(
    text: str | tuple[Message, ...],
    expected: tuple[str, ...],
    options: tuple[str, ...] = (),
    fields: dict[str, str] | None = None,
    group: str | None = None,
) -> Question:
    """A question with the id that its content gives it."""
    asked = text if isinstance(text, str) else [message.to_json() for message in text]
    name = digest(["question", asked, options, expected])[:16]
    part = {"text": text} if isinstance(text, str) else {"messages": text}
    return Question(id=name, **part, options=options, expected=expected, fields=fields or {}, group=group or name)


class NoExamples(Value):
    """Asked as it is."""

    kind: Literal["none"] = "none"


class FixedExamples(Value):
    """The same `number` answered questions before every question. They are drawn once and not asked themselves."""

    kind: Literal["fixed"] = "fixed"
    number: int = Field(5, ge=1, le=64)
    seed: int = 0


class DrawnExamples(Value):
    """`number` answered questions before each question, drawn for it from all the others."""

    kind: Literal["drawn"] = "drawn"
    number: int = Field(5, ge=1, le=64)
    seed: int = 0


Examples = Annotated[NoExamples | FixedExamples | DrawnExamples, Field(discriminator="kind")]


class Choose(Value):
    """Multiple choice by log-probability: the likeliest option, and the likeliest for its length (`acc_norm`)."""

    kind: Literal["choose"] = "choose"
    examples: Examples = NoExamples()


class Label(Value):
    """The same few options to every question: the likeliest one, and macro-F1 over them."""

    kind: Literal["label"] = "label"
    examples: Examples = NoExamples()


class Read(Value):
    """What the expected text costs the model behind a question's text: bits per byte, and perplexity per token."""

    kind: Literal["read"] = "read"


class Generate(Value):
    """An answer in the model's own words, marked by a scorer (`core/scorers.py`, `evals/scorers/table.py`)."""

    kind: Literal["generate"] = "generate"
    examples: Examples = NoExamples()
    sampling: Sampling = Sampling()
    samples: int = Field(1, ge=1, le=64, description="answers to each question, each with a seed of its own")
    scorer: Scorer


# How a suite is asked. Each kind has one function that evaluates it (`pipeline/suites.py: ASKED`).
Asking = Annotated[Choose | Label | Read | Generate, Field(discriminator="kind")]

MEASURES: dict[str, tuple[str, ...]] = {
    "choose": ("accuracy", "accuracy_norm"),
    "label": ("accuracy", "macro_f1"),
    "read": ("bits_per_byte", "perplexity"),
}


def measures_of(asking: Asking) -> tuple[str, ...]:
    """What a suite measures; the first decides. A generated answer is measured by its scorer."""
    return measures_of_scorer(asking.scorer) if isinstance(asking, Generate) else MEASURES[asking.kind]
