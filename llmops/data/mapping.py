"""From records to examples: which cells are the text, the label, the conversation, and what cannot be one."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import NamedTuple

from llmops.core.dataset import DroppedRow, Message, Row
from llmops.core.errors import RequestError
from llmops.core.sources import (
    Alpaca,
    Conversation,
    Labelled,
    PlainText,
    Preference,
    PromptReply,
    Rated,
    Shape,
    ShareGPT,
    Source,
)
from llmops.core.tasks import SHAPES_OF, Classify, Rate, Reply, Task
from llmops.data.cells import Misfit, Unfit, cell_text
from llmops.data.record import Record, shown
from llmops.data.shapes import SHAPES
from llmops.data.turns import Turn

# Columns by these names hold system prompts: one that nothing reads would be lost without a word.
SYSTEM_NAMES = frozenset(("system", "system_prompt", "system_message", "systemprompt", "system prompt"))
# Fields of a shape whose column may be missing, as long as the recipe does not name another.
MAY_BE_MISSING = frozenset(("input", "history", "system"))


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
        return DroppedRow(source=self.source, line=self.line, step=step, reason=reason, text=shown(text))


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


@lru_cache(maxsize=4096)  # a turn comes again as context of the turns after it
def fold(text: str) -> str:
    """What makes two texts the same: NFC, and every run of white space one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def map_records(records: Iterable[Record], name: str, part: int, source: Source, task: Task) -> list[Mapped]:
    """An example, or a dropped row, for each record of one source. `name` is what errors call it.

    Raises `RequestError` where the source's shape does not fit the task, a column that it names is nowhere, or most
    rows have another form than the shape says.
    """
    mapper: Mapper | None = None
    columns: dict[str, None] = {}
    mapped: list[Mapped] = []
    for record in records:
        if record.cells is not None:
            columns.update(dict.fromkeys(record.cells))
        if mapper is None and record.cells is not None:
            mapper = Mapper(part, source, source.shape or default_shape(task, columns), task, name)
        mapped.append(dropped_record(source.from_, record, "read", record.reason) if mapper is None else mapper(record))
    if mapper is not None:
        check_columns(name, source, mapper.shape, list(columns))
        mapper.check_fit()
    return mapped


def default_shape(task: Task, columns: Iterable[str]) -> Shape:
    """The shape of a source that names none: columns by their usual names."""
    fits = SHAPES_OF[task.kind]
    for shape in USUAL:
        if shape.kind in fits and set(columns) >= {
            name for field, name in _named(shape) if field not in MAY_BE_MISSING
        }:
            return shape
    return next(shape for shape in (PromptReply(), *USUAL) if shape.kind in fits)


USUAL: tuple[Shape, ...] = (
    Conversation(),
    ShareGPT(),
    Preference(),
    Alpaca(),
    PromptReply(),
    Labelled(),
    Rated(),
    PlainText(),
)


def _named(shape: Shape) -> list[tuple[str, str]]:
    """(field, column) of every column that a shape names."""
    return [(field, value) for field, value in shape if field not in ("kind", "cut", "decimal_mark")]


def check_columns(name: str, source: Source, shape: Shape, columns: Sequence[str]) -> None:
    """Raise `RequestError`, naming the nearest column, where a column that the source names is not there.

    And where a column of system prompts is there that nothing reads: they would be lost without a word.
    """
    wanted = dict(_named(shape))
    for field in MAY_BE_MISSING & set(wanted):
        if wanted[field] == type(shape).model_fields[field].default:
            del wanted[field]
    if isinstance(shape, Preference) and shape.prompt == "prompt":
        del wanted["prompt"]  # whole conversations hold it
    wanted |= {f"keep_fields[{number}]": column for number, column in enumerate(source.keep_fields)}
    wanted |= {"group": source.group} if source.group else {}
    for field, column in wanted.items():
        if column not in columns:
            near = get_close_matches(column, columns, 1, 0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            known = ", ".join(repr(name) for name in columns[:20])
            raise RequestError(
                f"{name} has no column {column!r}, which the source names as its {field}",
                f"{hint}its columns are {known}; name one of them in the recipe's source",
            )
    read = {*dict(_named(shape)).values(), *source.keep_fields}
    lost = [column for column in columns if column.strip().lower() in SYSTEM_NAMES and column not in read]
    if lost:
        raise RequestError(
            f"{name}: column {lost[0]!r} holds system prompts, and the source does not read it",
            f"write shape.system: {lost[0]}, or list it in keep_fields to leave it out of the conversations",
        )


def dropped_record(source: str, record: Record, step: str, reason: str) -> DroppedRow:
    """A record that became no example, as the ledger of dropped rows shows it."""
    text = record.text or json.dumps(record.cells, ensure_ascii=False, default=str)
    return DroppedRow(source=source, line=record.line, step=step, reason=reason, text=shown(text))


class Mapper:
    """Maps the records of one source. Calling it gives an `Example`, or a `DroppedRow` with its reason.

    It remembers how many records had another form than the shape says, and the first of them.
    """

    def __init__(self, part: int, source: Source, shape: Shape, task: Task, name: str) -> None:
        if shape.kind not in SHAPES_OF[task.kind]:
            raise RequestError(
                f"source {name!r} is {shape.kind}, which does not fit task {task.kind!r}",
                f"change task.kind, or give the source a shape that fits: {', '.join(sorted(SHAPES_OF[task.kind]))}",
            )
        self.part, self.source, self.shape, self.task, self.name = part, source, shape, task, name
        self.parts = SHAPES[shape.kind]
        self.opening = opening(task)
        self.seen = self.misfits = 0
        self.first: tuple[int, str] | None = None

    def __call__(self, record: Record) -> Example | DroppedRow:
        source, cells = self.source, record.cells
        if cells is None:
            return dropped_record(source.from_, record, "read", record.reason)
        self.seen += 1
        try:
            turns, text, label, rejected, liked = self.parts(self.shape, cells, self.task)
            kept = {name: cell_text(cells.get(name)).strip() for name in source.keep_fields}
            group = cell_text(cells.get(source.group)).strip() if source.group else ""
        except Unfit as error:
            if isinstance(error, Misfit):
                self.misfits += 1
                self.first = self.first or (record.line, str(error))
            return dropped_record(source.from_, record, "map", str(error))
        # Id and group do not depend on question or system prompt, so that a row keeps its id and never changes sides.
        same = sameness(turns, text, label, rejected, liked)
        group = group or short_hash(fold(text))
        row_id = short_hash(label, same) if label is not None else same
        fields = {**source.fields, **kept}
        if turns and turns[0][0] != "system":
            turns = (*self.opening, *turns)
        return Example(
            self.part, source.from_, record.line, turns, text, label, fields, group, same, row_id, rejected, liked
        )

    def check_fit(self) -> None:
        """Raise `RequestError` where most rows have another form than the shape says: it is the shape that is wrong."""
        if self.first is None or 2 * self.misfits <= self.seen:
            return
        line, reason = self.first
        raise RequestError(
            f"{self.name}, line {line}: {reason}; {self.misfits:,} rows do not fit the shape {self.shape.kind!r}",
            "look at the file with 'llmops new FILE', which says what its rows are and writes the shape",
        )
