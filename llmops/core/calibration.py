"""`Calibration`: may the probabilities that a model gives be believed, and which answers should it keep to itself?"""

from __future__ import annotations

from pydantic import Field

from llmops.core.findings import Estimate
from llmops.core.value import Value


class ReliabilityBin(Value):
    """Rows of about the same probability: what the model said, and how often it was right (95 %, Wilson)."""

    said: float
    right: float
    low: float
    high: float
    n: int


class Calibration(Value):
    """The probabilities of a report before and after a temperature.

    The numbers `after` are cross-fitted: each row is judged by a temperature that was fitted without its source. A
    probability p of a label becomes p^(1/temperature), normalised over the labels. `temperature` is what a version
    keeps: the one `fitted` on every row, or 1 where tempering did not lower the log loss of rows that it was not
    fitted on.
    """

    report: str
    n: int
    temperature: float = Field(gt=0)
    fitted: float = Field(gt=0)
    error_before: Estimate = Field(description="expected calibration error: mean |said - right|, equal-mass bins")
    error_after: Estimate
    error_by_chance: float = Field(
        description="what a model that is calibrated shows on so many rows, half of the time"
    )
    nats_before: float = Field(description="mean log loss a row")
    nats_after: float
    nats_change: Estimate = Field(description="after less before, paired; below 0 tempering helps")
    before: tuple[ReliabilityBin, ...]
    after: tuple[ReliabilityBin, ...]

    @property
    def mood(self) -> str | None:
        """Whether the model is too sure or not sure enough; None where its rows do not show either."""
        if self.nats_change.high >= 0:
            return None
        return "too sure" if self.fitted > 1 else "not sure enough"


class Apart(Value):
    """What a threshold came to on rows of sources that did not choose it, fold by fold."""

    answered: Estimate = Field(description="share of the rows that are answered")
    wrong: Estimate | None = Field(description="share of the answered ones that are wrong; None: none was answered")


class Abstention(Value):
    """Answer only where the model's own probability is `threshold` or more.

    Of the rows answered so, at most the share `error` is wrong, with 95 % confidence, for rows like the `n` that the
    threshold was found on. `threshold` None: no threshold can promise that.
    """

    report: str
    error: float = Field(gt=0, lt=1)
    threshold: float | None
    answered: float = Field(description="share of the rows that are answered")
    wrong: int
    n_answered: int
    n: int
    bound: float | None = Field(description="what the share of wrong answers is below, with 95 % confidence")
    apart: Apart | None = Field(None, description="the same, asked of rows that did not choose the threshold")
