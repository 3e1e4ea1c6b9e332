"""`ModelVersion`, `Promotion` and `Refusal`: which weights we stand behind, and who answers as `production`."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from pydantic import Field

from llmops.core.calibration import Abstention
from llmops.core.recipe import Name
from llmops.core.report import SubjectKind
from llmops.core.tasks import Task
from llmops.core.value import Fact, Value


class ModelVersion(Fact):
    """An immutable set of files with its lineage, back to the rows. `ref` (`tone:2`) is what people call it."""

    prefix: ClassVar[str] = "mv"

    name: Name
    number: int = Field(ge=1)
    kind: SubjectKind
    task: Task
    base: str = Field(description="name of the base in the recipe")
    base_sha256: str
    recipe: str
    dataset: str
    plan: str
    run: str | None = Field(None, description="None for a cheap row: nothing was trained by a run")
    adopted: str | None = Field(
        None, exclude_if=lambda name: name is None, description="name of the folder that another tool wrote"
    )
    report: str
    code_commit: str | None = Field(None, description="git commit of llmops; None outside a clone")
    packages: dict[str, str]
    files: dict[str, str] = Field(description="file in the version's folder: sha256")
    temperature: float | None = Field(
        None,
        gt=0,
        exclude_if=lambda temperature: temperature is None,
        description="what its probabilities of labels are tempered by, fitted on the rows of its report",
    )
    abstention: Abstention | None = Field(
        None,
        exclude_if=lambda found: found is None,
        description="how sure it has to be to give a label, by its probability before that; None: it gives every one",
    )

    @property
    def ref(self) -> str:
        return f"{self.name}:{self.number}"


class Promotion(Value):
    """An event: from now on `version` answers as `name@alias`. A rollback is one more of these."""

    name: Name
    alias: str = "production"
    version: int
    before: int | None = Field(None, description="who answered until now")
    comparison: str | None = Field(None, description="the evidence")
    because: str
    override: bool = Field(False, description="a gate had refused, and a person insisted")
    rollback: bool = False
    author: str
    at: datetime


class RefusedPromotion(Value):
    """An event: a gate said no. It stays on record."""

    name: Name
    alias: str = "production"
    version: int
    comparison: str | None
    because: str
    author: str
    at: datetime


def champion(promotions: tuple[Promotion, ...], name: str, alias: str = "production") -> Promotion | None:
    """Who answers as `name@alias` now: the last promotion of that alias, or None."""
    found = [event for event in promotions if event.name == name and event.alias == alias]
    return found[-1] if found else None
