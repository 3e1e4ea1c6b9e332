"""`Row` and `DatasetManifest`: which rows, from where, and what became of every one that was read."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from llmops.core.cleaning import StepCount
from llmops.core.tasks import Task
from llmops.core.value import Fact, Value

Role = Literal["system", "user", "assistant"]


class Message(Value):
    """One turn of a conversation."""

    role: Role
    content: str


class Row(Value):
    """One example. `messages` is what the model sees; the last one, by the assistant, is what it learns.

    `text` is the bare input (what a linear model sees); `label` its label where the task is to classify, and its
    number, as the model says it, where the task is to rate.
    Running text to go on with (task `continue`) has no messages: `text` is all of it, and all of it is learned.
    A preference row's last message is the better reply and `rejected` the worse one; a row with a thumb has `liked`.
    `id` is a hash of the content; `group` decides its side of the split.
    """

    id: str
    messages: tuple[Message, ...]
    text: str
    label: str | None = None
    rejected: str | None = None
    liked: bool | None = None
    fields: dict[str, str] = Field(default_factory=dict)
    group: str
    source: str
    line: int

    @model_validator(mode="after")
    def _is_whole(self) -> Row:
        if len(self.messages) == 1 or (not self.messages and not self.text):
            raise ValueError("a row is a prompt with a reply, or a text")
        return self

    @property
    def prompt(self) -> tuple[Message, ...]:
        """Everything before the reply."""
        return self.messages[:-1]

    @property
    def reply(self) -> str:
        """What the model should say: the last message, or all of a running text."""
        return self.messages[-1].content if self.messages else self.text


class DroppedRow(Value):
    """A row that was read and not kept: where it stood, which step dropped it, and why.

    `id` brings it back (`data.bring_back` of a recipe); a line that never became a row has none. Private data in
    `text` is masked once it is written.
    """

    id: str = ""
    source: str
    line: int
    step: str
    reason: str
    text: str


class SourceRecord(Value):
    """A source as it was found: its pin, licence and number of rows."""

    from_: str = Field(alias="from")
    sha256: str
    licence: str | None
    rows_read: int


class DatasetManifest(Fact):
    """The rows of one preparation. kept + dropped = read + made, always, and so it is step by step."""

    prefix: ClassVar[str] = "ds"

    name: str
    task: Task
    sources: tuple[SourceRecord, ...]
    rows_read: int
    rows_train: int
    rows_heldout: int
    dropped: dict[str, int] = Field(description="reason: number of rows")
    rows_made: int = Field(0, description="rows that a step added: counterfactuals of kept ones")
    rows_altered: int = Field(0, description="kept rows that a step altered")
    steps: tuple[StepCount, ...] = Field((), description="what each step did, in order")
    files: dict[str, str] = Field(description="file in the folder: sha256")

    @property
    def rows_dropped(self) -> int:
        return sum(self.dropped.values())

    @model_validator(mode="after")
    def _adds_up(self) -> DatasetManifest:
        if self.rows_train + self.rows_heldout + self.rows_dropped != self.rows_read + self.rows_made:
            raise ValueError("kept + dropped is not read")
        rows = self.rows_read
        for step in self.steps:
            if step.rows_in != rows or step.rows_out + sum(step.dropped.values()) != rows + step.made:
                raise ValueError(f"the rows do not add up at step {step.step!r}")
            rows = step.rows_out
        return self
