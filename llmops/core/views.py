"""What `inspect` shows: tokens as the model sees them."""

from __future__ import annotations

from pydantic import Field, computed_field

from llmops.core.value import Value


class TokenView(Value):
    """One token: whether training learns it and, in a reply, how likely it was and what else might have come."""

    text: str
    id: int
    trained: bool = False
    probability: float | None = None
    alternatives: tuple[tuple[str, float], ...] = ()


class RoundTrip(Value):
    """A row as we render it against the base's own chat template; where they differ, the first token that does."""

    same: bool
    at: int | None = None
    ours: str = ""
    theirs: str = ""


class RowView(Value):
    """One training row under the microscope: every token, and what becomes of it."""

    number: int
    id: str
    source: str
    line: int
    tokens: tuple[TokenView, ...]
    left_out: bool = False
    end_trained: bool
    fault: str = ""
    round_trip: RoundTrip | None = None
    rejected: str | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def trained(self) -> int:
        """Number of tokens that training learns."""
        return 0 if self.left_out else sum(token.trained for token in self.tokens)


class SetView(Value):
    """All training rows under the microscope, counted."""

    dataset: str
    base: str
    rows: int
    tokens: int
    trained: int
    shortest: int
    longest: int
    left_out: int
    end_trained: int
    round_trips: int = Field(description="rows that were compared with the base's own chat template")
    same: int = Field(description="of these, rows that are the same token for token")
    first_other: int | None = Field(None, description="number of the first row that differs")
    faults: dict[str, int] = Field(description="what is wrong with rows: how many")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def share(self) -> float:
        """Share of tokens that training learns."""
        return self.trained / max(1, self.tokens)
