"""`Power`: what so many rows can show, said before anything is run."""

from __future__ import annotations

from pydantic import Field

from llmops.core.value import Value


class Power(Value):
    """The smallest difference that a paired comparison on `rows` rows finds in 80 of 100 cases, at 5 %.

    It hangs on how often two models differ: `changed` for right or wrong, `deviation` for graded marks. `basis` says
    whether that was measured or assumed. Differences are in the measure's own unit, or, where the deviation is not
    known yet, in deviations of the row-by-row difference (`deviation` None).
    """

    rows: int = Field(ge=2)
    metric: str
    design_effect: float = Field(1.0, ge=1, description="rows that share a source count for so many times fewer")
    changed: float | None = Field(None, description="share of rows that one model has right and the other wrong")
    deviation: float | None = Field(None, description="standard deviation of the row-by-row difference of graded marks")
    basis: str
    smallest: float | None = Field(description="None: no difference at all can be shown")
    wanted: float
    rows_needed: int | None = Field(description="rows that show the wanted difference; None: more than 10,000,000")

    @property
    def sentence(self) -> str:
        """The same for a person: `600 rows show a difference of 4.6 points ...`."""
        unit = self._unit
        shown = "no difference at all" if self.smallest is None else f"a difference of {unit(self.smallest)} or more"
        needed = "more than 10,000,000" if self.rows_needed is None else f"{self.rows_needed:,}"
        clustered = f", {self.design_effect:.1f} rows counting as one" if self.design_effect > 1.05 else ""
        return (
            f"{self.rows:,} rows{clustered} show {shown} in {self.metric} (80 % power, paired, {self.basis}); "
            f"{unit(self.wanted)} would take {needed} rows"
        )

    def _unit(self, number: float) -> str:
        if self.changed is not None:
            return f"{100 * number:.1f} points"
        return f"{number:.3g}" if self.deviation is not None else f"{number:.3g} standard deviations"
