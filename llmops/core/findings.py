"""What the checks of a whole set found: leaks, labels that look wrong, bias, drift. Each number with its n."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmops.core.value import Value

LeakKind = Literal["exact", "normalised", "13-gram", "near", "group"]


class Estimate(Value):
    """A number with its 95 % interval over n rows."""

    value: float
    low: float
    high: float
    n: int


class Leak(Value):
    """A training row that says what a held-out row says; the strongest kind that joins it to one."""

    train: str = Field(description="row id")
    heldout: str = Field(description="row id")
    kind: LeakKind
    alike: float = Field(description="1 is equal; for 13-gram the share of the held-out row's runs of 13 words")


class Leaks(Value):
    """Every training row that leaks into a held-out part, once; and every held-out row that is touched."""

    against: str = Field(description="id of the data set whose held-out rows were looked at")
    rows_train: int
    rows_heldout: int
    found: tuple[Leak, ...]
    touched: tuple[str, ...] = Field(description="ids of the held-out rows that some training row leaks into")

    @property
    def kinds(self) -> dict[str, int]:
        """Number of training rows by kind."""
        return {kind: number for kind in LEAK_KINDS if (number := sum(leak.kind == kind for leak in self.found))}

    def to_repair(self, most_near: float) -> tuple[Leak, ...]:
        """The leaks whose training row has to go: all, but near ones where they are more than a share `most_near`.

        So many rows that are nearly the same were made from a pattern; without them there would be another data set.
        """
        if self.kinds.get("near", 0) <= most_near * self.rows_train:
            return self.found
        return tuple(leak for leak in self.found if leak.kind != "near")


LEAK_KINDS: tuple[LeakKind, ...] = ("exact", "normalised", "13-gram", "near", "group")


class Inflation(Value):
    """How much a score owes to held-out rows that the training rows already held."""

    metric: str
    against: str
    leaked: Estimate | None = Field(description="the score on held-out rows that leaked")
    clean: Estimate | None = Field(description="the score on the others")
    inflation: Estimate | None = Field(description="all rows less clean rows; the interval draws both parts again")


class LabelIssue(Value):
    """A row whose label looks wrong."""

    row: str
    text: str
    given: str
    suggested: str
    quality: float = Field(description="out-of-fold probability of the given label; 0 is surely wrong")


class Treatment(Value):
    """What dropping or relabelling would do to cross-validated accuracy, on the same folds."""

    kind: Literal["drop", "relabel"]
    rows: int
    change: Estimate = Field(description="accuracy with it less accuracy without, paired over rows")


class Diagnosis(Value):
    """The label doctor's opinion. `issues` are the most suspicious rows first, `done` is what became of them."""

    rows: int
    accuracy: Estimate = Field(description="out-of-fold accuracy of the linear model on the labels as given")
    issues: tuple[LabelIssue, ...]
    treatments: tuple[Treatment, ...] = ()
    done: Literal["nothing", "drop", "relabel"] = "nothing"
    because: str


class GroupLine(Value):
    """Rows that name one group (or hold one value of a column) against the other rows."""

    axis: str
    group: str
    rows: int
    rates: dict[str, Estimate] = Field(description="label: its share in these rows")
    difference: dict[str, Estimate] = Field(description="label: share here less share in all other rows")
    words: Estimate = Field(description="mean words of a text")


class SwapLine(Value):
    """One group's words put in place of another's: how much a linear model trained on the rows changes its mind."""

    axis: str
    swap: str = Field(description="`from > to`")
    rows: int
    shift: dict[str, Estimate] = Field(description="label: mean change of its probability")
    flipped: Estimate = Field(description="share of rows whose predicted label changes")


class Bias(Value):
    """The bias audit."""

    rows: int
    groups: tuple[GroupLine, ...]
    swaps: tuple[SwapLine, ...]


class Drift(Value):
    """Are train and held out drawn alike?"""

    lengths_p: float = Field(description="Kolmogorov-Smirnov test of the number of words")
    labels_p: float | None = Field(description="chi-squared test of the labels; None without labels")
    told_apart: Estimate | None = Field(description="AUC of a linear model that tells the sides apart; 0.5 is chance")


class Review(Value):
    """What the checks of a whole set found while it was prepared, kept beside its rows as `review.json`."""

    leaks: Leaks = Field(description="as they stood before the repair")
    repaired: bool
    diagnosis: Diagnosis | None = Field(None, description="where the recipe asks to drop or relabel")
    made: int = Field(0, description="rows added with a group swapped")
