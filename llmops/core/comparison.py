"""`Comparison`: is B better than A, or is it noise? Paired, on one suite; and the pick that follows from several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from llmops.core.report import Subject
from llmops.core.value import Fact, Value

Verdict = Literal["better", "worse", "cannot tell"]
SIGNIFICANT = 0.05


def _absent(value: object) -> bool:
    """A field that is not there does not count in the id, so that ids from before the field stay."""
    return value is None


def holm(ps: Mapping[str, float]) -> dict[str, float]:
    """p values adjusted so that any of them falls below 0.05 by chance in 5 of 100 cases (Holm 1979)."""
    adjusted, worst = {}, 0.0
    for place, (name, p) in enumerate(sorted(ps.items(), key=lambda item: item[1])):
        worst = max(worst, min(1.0, (len(ps) - place) * p))
        adjusted[name] = worst
    return {name: adjusted[name] for name in ps}


class Difference(Value):
    """Challenger minus baseline with its 95 % interval; for bits per byte the sign is turned, so that up is better.

    `p` and the interval agree. Where this is one of several slices, `adjusted_p` is Holm's over all of them.
    """

    delta: float
    low: float
    high: float
    p: float
    n: int
    test: Literal["mcnemar", "bootstrap", "clustered"]
    groups: int | None = Field(None, exclude_if=_absent, description="sources that the rows share; None: no two do")
    design_effect: float | None = Field(None, exclude_if=_absent, description="what that costs, in rows for a row")
    rank_p: float | None = Field(
        None, exclude_if=_absent, description="Wilcoxon's of a graded mark, which a few extreme rows cannot move"
    )
    adjusted_p: float | None = Field(None, exclude_if=_absent, description="Holm's, over every slice")

    @property
    def verdict(self) -> Verdict:
        """What the interval says, `better` above 0 and `worse` below; of a slice, only where Holm's p says so too."""
        if self.adjusted_p is not None and self.adjusted_p >= SIGNIFICANT:
            return "cannot tell"
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
