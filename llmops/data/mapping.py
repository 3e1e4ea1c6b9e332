"""From records to examples: which cells are the text, the label, the conversation, and what cannot be one."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from llmops.core.dataset import DroppedRow, Message, Row
from llmops.core.sources import (
    Shape,
    Source,
)
from llmops.core.tasks import Classify, Rate, Reply, Task
from llmops.data.cells import Unfit, described, optional
from llmops.data.damage import damage
from llmops.data.fit import Fit, default_shape
from llmops.data.record import Record, shown
from llmops.data.shapes import SHAPES, Parts
from llmops.data.turns import Turn


class Example(NamedTuple):
    """A row on its way: mapped, not yet dealt.

    `part` is the number of its source in the recipe. Two examples with an equal `same` are duplicates: the hash of
    the folded text where there is a label, else of the whole folded conversation, the worse reply and the thumb.
    """

    part: int
    source: str
    line: int
    turns: tuple[Turn, ...]
    text: str
    label: str | None
    fields: dict[str, str]
    group: str
    same: str
    id: str
    rejected: str | None = None
    liked: bool | None = None

    def row(self) -> Row:
        """The row as it is stored."""
        messages = tuple(Message(role=role, content=content) for role, content in self.turns)
        return Row(messages=messages, **{name: getattr(self, name) for name in SHARED})

    def dropped(self, step: str, reason: str) -> DroppedRow:
        """The row as the ledger of dropped rows shows it."""
        bare = self.label is not None or not self.turns
        text = self.text if bare else "\n".join(content for _, content in self.turns)
        return DroppedRow(id=self.id, source=self.source, line=self.line, step=step, reason=reason, text=shown(text))


Mapped = Example | DroppedRow
SHARED = ("id", "text", "label", "rejected", "liked", "fields", "group", "source", "line")


def ask(task: Task, text: str) -> tuple[Message, ...]:
    """The prompt that training rows have, for a text of one's own: the question as system prompt, the text as the turn.

    The question stands first in every row, so a pack of rows reads it once (`lm/pack.py`).
    """
    system = tuple(Message(role="system", content=content) for _, content in opening(task))
    asks = isinstance(task, Classify | Rate)
    return (*system, Message(role="user", content=text.strip() if asks else text))


def opening(task: Task) -> tuple[Turn, ...]:
    """What a task puts before each row that has no system prompt of its own."""
    first = task.question if isinstance(task, Classify | Rate) else task.system if isinstance(task, Reply) else None
    return (("system", first),) if first else ()


def short_hash(*texts: str) -> str:
    """16 hex digits of the sha256 of some texts."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def sameness(
    turns: Sequence[Turn], text: str, label: str | None, rejected: str | None = None, liked: bool | None = None
) -> str:
    """What makes two rows duplicates: see `Example`."""
    bare = label is not None or not turns
    spoken = [text] if bare else [part for turn in turns if turn[0] != "system" for part in turn]
    spoken += [part for part in (rejected, liked and "liked", liked is False and "disliked") if part]
    return short_hash(*[fold(part) for part in spoken])


@lru_cache(maxsize=64)  # a turn comes again as context of the turns after it
def fold(text: str) -> str:
    """What makes two texts the same: NFC, and every run of white space one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def map_records(records: Iterable[Record], name: str, part: int, source: Source, task: Task) -> Iterator[Mapped]:
    """An example, or a dropped row, for each record of one source, one after the other. `name` is what errors call it.

    Raises `RequestError` where the source's shape does not fit the task; and at the end, where a column that it names
    is nowhere, a column that belongs to the conversations is not read, or most rows have another form than the shape.
    """
    mapper: Mapper | None = None
    for record in records:
        if mapper is None and record.cells is not None:
            mapper = Mapper(part, source, source.shape or default_shape(task, record.cells), task, name)
        yield dropped_record(source.from_, record, "read", record.reason) if mapper is None else mapper(record)
    if mapper is not None:
        mapper.fit.check()


def dropped_record(source: str, record: Record, step: str, reason: str) -> DroppedRow:
    """A record that became no example, as the ledger of dropped rows shows it."""
    text = record.text or json.dumps(record.cells, ensure_ascii=False, default=str)
    return DroppedRow(source=source, line=record.line, step=step, reason=reason, text=shown(text))


class Mapper:
    """Maps the records of one source. Calling it gives an `Example`, or a `DroppedRow` with its reason."""

    def __init__(self, part: int, source: Source, shape: Shape, task: Task, name: str) -> None:
        self.part, self.source, self.shape, self.task = part, source, shape, task
        self.fit = Fit(name, source, shape, task)
        self.parts = SHAPES[shape.kind]
        self.opening = opening(task)

    def __call__(self, record: Record) -> Example | DroppedRow:
        source, cells = self.source, record.cells
        if cells is None:
            return dropped_record(source.from_, record, "read", record.reason)
        try:
            self.fit.see(record)
            parts = self.parts(self.shape, cells, self.task)
            check_whole(parts)
            fields = {**source.fields, **{name: described(cells, name) for name in source.keep_fields}}
            group = optional(cells, source.group) if source.group else ""
        except Unfit as error:
            self.fit.misfit(record, error)
            return dropped_record(source.from_, record, "map", str(error))
        # Id and group do not depend on question or system prompt, so that a row keeps its id and never changes sides.
        same = sameness(parts.turns, parts.text, parts.label, parts.rejected, parts.liked)
        return Example(
            part=self.part,
            source=source.from_,
            line=record.line,
            turns=(*self.opening, *parts.turns) if parts.turns and parts.turns[0][0] != "system" else parts.turns,
            fields=fields,
            group=group or short_hash(fold(parts.text)),
            same=same,
            id=short_hash(parts.label, same) if parts.label is not None else same,
            text=parts.text,
            label=parts.label,
            rejected=parts.rejected,
            liked=parts.liked,
        )


def check_whole(parts: Parts) -> None:
    """Raise `Unfit` where a text was damaged before it reached us."""
    for text in (parts.text, parts.label or "", parts.rejected or "", *(content for _, content in parts.turns)):
        if found := damage(text):
            raise Unfit(found)
