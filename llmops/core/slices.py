"""`Slices`: where a model is weak. Groups of held-out rows, found by field, length and topic, the worst first."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmops.core.comparison import SIGNIFICANT
from llmops.core.report import Score
from llmops.core.value import Value

By = Literal["field", "length", "cluster"]


class Slice(Value):
    """Some rows of a report against all its others. `gap` is their score minus the others', turned so that up is good.

    `adjusted_p` is Holm's over every slice that was looked at: among twenty, one is far off by chance.
    """

    name: str
    by: By
    rows: tuple[str, ...] = Field(description="ids of its rows")
    score: Score
    gap: float
    p: float
    adjusted_p: float

    @property
    def verdict(self) -> Literal["weak", "strong", "cannot tell"]:
        """Whether it is shown to be worse or better than the rest."""
        if self.adjusted_p >= SIGNIFICANT:
            return "cannot tell"
        return "weak" if self.gap < 0 else "strong"


class Slices(Value):
    """Every slice of a report, the worst first."""

    report: str
    metric: str
    slices: tuple[Slice, ...]
