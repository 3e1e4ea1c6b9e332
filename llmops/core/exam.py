"""`Exam`: did the model understand, or did it memorise? What it gained on rows it saw, and what of it holds elsewhere.

A mark says how well a row is answered: 1 or 0 where a label is picked, minus the bits per byte where a text is learned.
A gain is the tuned model's mark less the base's, so what a row owes to its own difficulty cancels out.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from llmops.core.findings import Estimate
from llmops.core.report import Subject
from llmops.core.value import Fact, Value

Learned = Literal["understood", "memorised", "cannot tell"]
TwinKind = Literal["paraphrase", "name", "number", "option order", "negation"]
Side = Literal["train", "heldout"]

SIDE_NAMES: dict[Side, str] = {"train": "trained rows", "heldout": "held-out rows"}
MEASURE_NAMES = {"accuracy": "accuracy", "loss_nats": "loss of the label, nats", "bits_per_byte": "bits per byte"}

HALF = 0.5  # of the gain must hold on unseen rows, for "understood"
MOST_COPIED = 0.05  # of the training rows may be recited beyond what controls explain


class Gap(Value):
    """One measure on rows that were trained and on rows held out, by the base and by the tuned model.

    `gap` is how much more the tuned model gained on the trained rows than on the others; 0 where it only understood.
    """

    measure: str
    base_train: float
    base_heldout: float
    tuned_train: float
    tuned_heldout: float
    gap: Estimate


class Recital(Value):
    """Of some rows, the share whose rest greedy decoding gives word for word, and the typical longest run of tokens."""

    rows: int
    recited: int
    run_tokens: float = Field(description="median over the rows of the longest run that is reproduced")


class Copying(Value):
    """Prefix extraction: the first tokens of a text are given, and the rest of it is awaited, token for token.

    `excess` is the share of trained rows recited, less that of held-out rows or that of the same rows by the base,
    whichever is larger: boilerplate, and what the base knew by heart, are no alarm.
    """

    prefix_tokens: int
    tuned_train: Recital
    tuned_heldout: Recital
    base_train: Recital
    excess: Estimate


class Exposure(Value):
    """How far canaries that stood `repeats` times among the training rows outrank ones of chance, in bits.

    log2 |R| - log2 rank (Carlini et al. 2019): 0 to 36 here, about 1.4 on average where nothing was memorised.
    """

    repeats: int
    bits: tuple[float, ...] = Field(description="one number a canary")
    base_bits: tuple[float, ...] = Field(description="the same by the base")


class TwinLine(Value):
    """Rows of one side and their twins of one kind: marks before and after, and the paired change."""

    kind: TwinKind
    side: Side
    n: int
    must_flip: int = Field(description="twins whose expected answer is another one than the row's")
    before: float
    after: float
    change: Estimate


class CopiedRow(Value):
    """A training row that the model knows by heart, or seems to: what was given, and what it made of it."""

    row: str
    text: str
    given: str
    recited: str
    because: str


class Exam(Fact):
    """One tuned model examined, with one verdict: of what it gained on trained rows, how much holds on unseen ones?"""

    prefix: ClassVar[str] = "ex"

    subject: Subject
    plan: str
    dataset: str
    rows_train: int
    rows_heldout: int
    rows_there: int | None = Field(None, description="rows of the smaller side that could be asked")
    verdict: Learned
    because: str
    gained: Estimate = Field(description="on trained rows, in marks")
    carried: Estimate | None = Field(description="share of it that holds on held-out rows; None: no sure gain")
    gaps: tuple[Gap, ...] = Field(description="the score first, then the loss")
    copying: Copying | None = Field(None, description="None where the rows are too short to be recited")
    exposures: tuple[Exposure, ...] = Field((), description="where canaries were planted")
    twins: tuple[TwinLine, ...] = ()
    most_copied: tuple[CopiedRow, ...] = Field((), max_length=3)

    @property
    def advice(self) -> str | None:
        """What would settle it, where it cannot be told."""
        if self.verdict != "cannot tell":
            return None
        asked = min(self.rows_train, self.rows_heldout)
        if self.rows_there is not None and self.rows_there <= asked:
            return "all rows were asked: only more rows held out would tell"
        rows = min(4 * asked, self.rows_there or 4 * asked)
        return f"more rows may tell: llmops evaluate {self.subject.ref} --exam --rows {rows}"

    @property
    def not_asked(self) -> tuple[str, ...]:
        """What this exam could not look at, and why."""
        copied = () if self.copying else ("no row was to be recited: labels are too short to be known word for word",)
        return copied if self.exposures else (*copied, "no canaries were planted: a recipe's data.canaries plants some")
