"""What a recipe decides about the checks that need the whole set: leaks, labels, bias, corrections, replay."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from llmops.core.value import Value

Terms = dict[str, dict[str, tuple[str, ...]]]


class LeakGate(Value):
    """Training rows that say what a held-out row says. Repaired, the training row goes; the held-out row stays."""

    near: float = Field(
        0.5, ge=0.3, le=1, description="likeness from which two texts count as one (weighted Jaccard of their words)"
    )
    most_near: float = Field(
        0.3,
        ge=0,
        le=1,
        description="share of the training rows above which near matches are how the rows are made: said, and kept",
    )
    same: tuple[str, ...] = Field((), description="fields whose equal value is one source: author, document, thread")
    then: Literal["repair", "report"] = Field("repair", description="drop the training row, or only say so")


class KeepLabels(Value):
    """Rank the rows whose label looks wrong, and keep every row as it is."""

    kind: Literal["keep"] = "keep"


class DropLabels(Value):
    """Drop the rows whose label looks most wrong, where cross-validation says that it does not hurt."""

    kind: Literal["drop"] = "drop"
    at_most: float = Field(0.2, gt=0, le=0.5, description="largest share of the training rows that may go")


class Relabel(Value):
    """Give them the label that the other rows suggest, where cross-validation says that it does not hurt."""

    kind: Literal["relabel"] = "relabel"
    at_most: float = Field(0.2, gt=0, le=0.5, description="largest share of the training rows that may change")


LabelDoctor = Annotated[KeepLabels | DropLabels | Relabel, Field(discriminator="kind")]


class BiasAudit(Value):
    """Label rates and lengths by the groups that a text names, and by a column; and what swapping the names changes."""

    columns: tuple[str, ...] = Field((), description="fields to compare by, besides the groups named in the texts")
    terms: Terms = Field(
        default_factory=dict, description="axis: group: its words; the n-th words of two groups are counterparts"
    )
    swaps: float = Field(
        0.0, ge=0, le=1, description="share of the training rows that name a group and are added with the group swapped"
    )
