"""`EvalReport`: what a model can do, measured how. n and an interval beside every score; every answer kept."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from pydantic import Field

from llmops.core.suites import Asking
from llmops.core.value import Fact, Value

SubjectKind = Literal[
    "majority", "mean", "word_list", "tfidf", "frozen", "nearest", "base", "few_shot", "tuned", "endpoint"
]

# Where a lower number is the better one.
LOWER_IS_BETTER = frozenset({"absolute_error", "bits_per_byte", "perplexity"})


class Suite(Fact):
    """What was asked: which rows, how, measured how. Two reports are comparable only where their suites are equal.

    Without `asking` the rows are a recipe's own held-out ones, asked as its task says. Else they are questions
    (`core/suites.py`), whose ids hold their prompts, examples included.
    """

    prefix: ClassVar[str] = "su"

    dataset: str = Field(description="id of a data set, or the name of a suite")
    rows_sha256: str = Field(description="of the ids of the rows, in order")
    measures: tuple[str, ...] = Field(description="the first decides")
    slices: tuple[str, ...]
    asking: Asking | None = Field(None, exclude_if=lambda asking: asking is None)
    scale: float | None = Field(
        None,
        exclude_if=lambda scale: scale is None,  # a suite without one keeps the id that it had before there was one
        description="from the lowest to the highest training rating: the most that a row costs by absolute_error",
    )


class Subject(Value):
    """Who was asked. `ref` is a run id, a version (`tone:2`) or the base's name; `cost` ranks kinds by price."""

    kind: SubjectKind
    ref: str

    @property
    def cost(self) -> int:
        """0 is cheapest: what an answer costs to compute, as an order of kinds."""
        return get_args(SubjectKind).index(self.kind)


class Score(Value):
    """A number with its uncertainty: a 95 % interval over `n` rows, and the same by slice (`domain=tweets`).

    Where rows share a source, the interval is that of `groups` sources, and `design_effect` says what that costs: so
    many times as many rows would say as much as the same number of rows that have nothing to do with each other.
    """

    metric: str
    value: float
    low: float
    high: float
    n: int
    groups: int | None = Field(None, exclude_if=lambda groups: groups is None)
    design_effect: float | None = Field(None, exclude_if=lambda effect: effect is None)
    slices: dict[str, Score] = Field(default_factory=dict)


class Sample(Value):
    """One of several answers to a question, drawn with a seed of its own. `mark` None: it could not be marked."""

    seed: int
    answered: str
    mark: float | None
    notes: dict[str, str] = Field(default_factory=dict)


class Answer(Value):
    """One row as it was answered. `marks` holds what each measure made of it (for accuracy, 0.0 or 1.0).

    A mark that a scorer could not give is left out. `notes` says how a mark came about: what was read, a verdict.
    Where a question was answered several times, the marks are means over `samples`.
    """

    row: str
    prompt: str
    expected: str
    answered: str
    marks: dict[str, float]
    weights: dict[str, float] = Field(
        default_factory=dict,
        description="where a mark is an amount, not right or wrong: the bytes that it is a rate of, or 1",
    )
    probability: float | None = None
    chances: dict[str, float] = Field(
        default_factory=dict, exclude_if=lambda chances: not chances, description="of every label, where there are any"
    )
    group: str | None = Field(
        None, exclude_if=lambda group: group is None, description="what it shares with other rows; None: nothing"
    )
    fields: dict[str, str] = Field(default_factory=dict)
    notes: dict[str, str] = Field(default_factory=dict, exclude_if=lambda notes: not notes)
    samples: tuple[Sample, ...] = Field((), exclude_if=lambda samples: not samples)


class EvalReport(Fact):
    """One subject on one suite. `answers` is stored beside it as `answers.jsonl`."""

    prefix: ClassVar[str] = "rp"

    subject: Subject
    suite: Suite
    scores: dict[str, Score]
    answers: tuple[Answer, ...]

    @property
    def main(self) -> Score:
        """The score that decides; its first one where it has none by that measure (a TF-IDF cosine has no bits)."""
        return self.scores.get(self.suite.measures[0]) or next(iter(self.scores.values()))
