"""`Comparison`: is B better than A, or is it noise? Paired, on one suite; and the pick that follows from several."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from llmops.core.report import Subject
from llmops.core.value import Fact, Value

Verdict = Literal["better", "worse", "cannot tell"]


class Difference(Value):
    """Challenger minus baseline with its 95 % interval; for bits per byte the sign is turned, so that up is better."""

    delta: float
    low: float
    high: float
    p: float
    n: int
    test: Literal["mcnemar", "bootstrap"]

    @property
    def verdict(self) -> Verdict:
        """What the interval says: `better` above 0, `worse` below 0, else `cannot tell`."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "cannot tell"


class Comparison(Fact):
    """One challenger against one baseline on one suite, overall and by slice."""

    prefix: ClassVar[str] = "cp"

    suite: str
    metric: str
    baseline: Subject
    challenger: Subject
    baseline_report: str
    challenger_report: str
    overall: Difference
    slices: dict[str, Difference] = Field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        return self.overall.verdict


class Pick(Value):
    """The cheapest row that is not worse than the best by more than `margin`, and why."""

    subject: Subject
    because: str
    margin: float
