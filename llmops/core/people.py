"""What people say of rows: corrections, which land in the next set, and notes. Events, each with its author."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field, model_validator

from llmops.core.value import Value


class Correction(Value):
    """What a row should have been: another label, or another reply. The row keeps its id and its side."""

    row: str = Field(description="row id")
    label: str | None = None
    reply: str | None = None
    author: str
    note: str = ""

    @model_validator(mode="after")
    def _says_one_thing(self) -> Correction:
        if (self.label is None) == (self.reply is None):
            raise ValueError("a correction is a label or a reply")
        return self


class Corrected(Value):
    """An event: a person corrected a row of a recipe's data set."""

    name: str = Field(description="of the recipe")
    dataset: str
    correction: Correction
    at: datetime


class Note(Value):
    """An event: a person wrote something on a row, or on a whole set (then `row` is None)."""

    name: str
    dataset: str
    row: str | None = None
    text: str = ""
    tags: tuple[str, ...] = ()
    author: str
    at: datetime
