"""From records to examples: which cells are the text, the label, the conversation, and what cannot be one."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, NamedTuple

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
from llmops.data.cells import Misfit, Unfit, has, optional
from llmops.data.damage import damage
from llmops.data.record import Record, shown
from llmops.data.shapes import SHAPES
from llmops.data.turns import Turn

# What columns by these names hold belongs to the conversation: where nothing reads one, it would be lost in silence.
CONTEXT_NAMES = {
    **dict.fromkeys(("system", "system_prompt", "system_message", "systemprompt", "system prompt"), "system prompts"),
    **dict.fromkeys(("history",), "earlier turns"),
    **dict.fromkeys(("tools", "functions"), "tools that the replies call"),
    **dict.fromkeys(("image", "images", "audio", "audios", "video", "videos"), "pictures, sounds or films"),
}
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


@lru_cache(maxsize=4096)  # a turn comes again as context of the turns after it
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
        mapper.check()


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


def wanted_columns(source: Source, shape: Shape) -> dict[str, str]:
    """What a source calls a column, and its name, for every column that must be there."""
    wanted = dict(_named(shape))
    optional = MAY_BE_MISSING | (
        {"prompt"} if isinstance(shape, Preference) else set()
    )  # whole talks hold their prompt
    for field in optional & set(wanted):
        if wanted[field] == type(shape).model_fields[field].default:
            del wanted[field]
    wanted |= {f"keep_fields[{number}]": column for number, column in enumerate(source.keep_fields)}
    return wanted | ({"group": source.group} if source.group else {})


def dropped_record(source: str, record: Record, step: str, reason: str) -> DroppedRow:
    """A record that became no example, as the ledger of dropped rows shows it."""
    text = record.text or json.dumps(record.cells, ensure_ascii=False, default=str)
    return DroppedRow(source=source, line=record.line, step=step, reason=reason, text=shown(text))


# Turns and their JSON are one type with plain text: what they say is told apart by itself.
KINDS: dict[type, str] = {
    **dict.fromkeys((str, list, dict), "text"),
    **dict.fromkeys((int, float), "a number"),
    bool: "true or false",
}


def said(turns: tuple[Turn, ...]) -> tuple[str, ...]:
    """What was said in each turn."""
    return tuple(content for _, content in turns)


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
        self.columns: dict[str, None] = {}
        self.missing = wanted_columns(source, shape)
        self.read = {*dict(_named(shape)).values(), *source.keep_fields}
        # A number, and a thumb, is the same in text.
        numbers = {
            getattr(shape, field, "") for field in ("number", "thumb", "label" if getattr(shape, "cut", None) else "")
        }
        self.typed = [*(self.read - numbers), *([source.group] if source.group else [])]
        self.unread: dict[str, int] = {}  # column that belongs to the conversations: first line with something in it
        self.seen = self.misfits = 0
        self.first: tuple[int, str] | None = None
        self.kinds: dict[str, tuple[str, int]] = {}  # column: what it holds, and the first line that does
        self.strays = 0

    def __call__(self, record: Record) -> Example | DroppedRow:
        source, cells = self.source, record.cells
        if cells is None:
            return dropped_record(source.from_, record, "read", record.reason)
        self._look(cells, record.line)
        try:
            self._same_type(cells, record.line)
            turns, text, label, rejected, liked = self.parts(self.shape, cells, self.task)
            kept = {name: optional(cells, name) for name in source.keep_fields}
            group = optional(cells, source.group) if source.group else ""
            if wrong := next(
                (found for part in (text, label, rejected, *said(turns)) if (found := damage(part or ""))), ""
            ):
                raise Unfit(wrong)
        except Unfit as error:
            if isinstance(error, Misfit):
                self.misfits += 1
                self.first = self.first or (record.line, str(error))
            return dropped_record(source.from_, record, "map", str(error))
        # Id and group do not depend on question or system prompt, so that a row keeps its id and never changes sides.
        spoken = (
            [text]
            if label is not None or not turns
            else [part for turn in turns if turn[0] != "system" for part in turn]
        )
        spoken += [part for part in (rejected, liked and "liked", liked is False and "disliked") if part]
        same = short_hash(*[fold(part) for part in spoken])
        group = group or short_hash(fold(text))
        row_id = short_hash(label, same) if label is not None else same
        fields = {**source.fields, **kept}
        if turns and turns[0][0] != "system":
            turns = (*self.opening, *turns)
        return Example(
            self.part, source.from_, record.line, turns, text, label, fields, group, same, row_id, rejected, liked
        )

    def _same_type(self, cells: dict[str, Any], line: int) -> None:
        """Raise `Unfit` where a column holds another type than in the rows before: 1 and "1" are not the same."""
        for column in self.typed:
            kind = KINDS.get(type(value)) if (value := cells.get(column)) is not None else None
            if kind is None:
                continue
            known, first = self.kinds.setdefault(column, (kind, line))
            if known != kind:
                self.strays += 1
                raise Unfit(f"type changes: {column} is {kind} here, and {known} from line {first} on")

    def _look(self, cells: dict[str, Any], line: int) -> None:
        """Note which columns are there."""
        self.seen += 1
        if not cells.keys() <= self.columns.keys():
            self.columns.update(dict.fromkeys(cells))
        if self.missing:
            self.missing = {field: column for field, column in self.missing.items() if not has(cells, column)}
        for column, value in cells.items():
            if value and column not in self.read and column.strip().lower() in CONTEXT_NAMES:
                self.unread.setdefault(column, line)

    def check(self) -> None:
        """Raise `RequestError` where the source's shape is not what its rows are: see `map_records`."""
        for field, column in self.missing.items():
            near = get_close_matches(column, self.columns, 1, 0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            known = ", ".join(repr(name) for name in list(self.columns)[:20])
            raise RequestError(
                f"{self.name} has no column {column!r}, which the source names as its {field}",
                f"{hint}its columns are {known}; name one of them in the recipe's source",
            )
        for column, line in self.unread.items() if isinstance(self.task, Reply) else ():
            held = CONTEXT_NAMES[column.strip().lower()]
            system = f"write shape.system: {column}, or " if held == "system prompts" else ""
            raise RequestError(
                f"{self.name}, line {line}: column {column!r} holds {held}, and the source does not read it",
                f"{system}list it in keep_fields to leave it out of the conversations",
            )
        if 2 * self.strays > self.seen:
            column, (kind, line) = next(iter(self.kinds.items()))
            raise RequestError(
                f"{self.name}: most rows hold another type than line {line}, where {column!r} is {kind}",
                "give a column one type in all rows; mend that line where it is the odd one",
            )
        if self.first is not None and 2 * self.misfits > self.seen:
            raise RequestError(
                f"{self.name}, line {self.first[0]}: {self.first[1]}; {self.misfits:,} of {self.seen:,} rows do not "
                f"fit the shape {self.shape.kind!r}",
                "look at the file with 'llmops new FILE', which says what its rows are and writes the shape",
            )
