"""From records to examples: which cells are the text, the label, the conversation, and what cannot be one."""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, NamedTuple

from llmops.core.dataset import DroppedRow, Message, Row
from llmops.core.errors import RequestError
from llmops.core.sources import Conversation, Labelled, PromptReply, Shape, Source
from llmops.core.tasks import Classify, Reply, Task
from llmops.data.record import Record, shown

Turn = tuple[str, str]
ROLES = frozenset(("system", "user", "assistant"))


class Example(NamedTuple):
    """A row on its way: mapped, not yet dealt.

    `part` is the number of its source in the recipe. Two examples with an equal `same` are duplicates: the hash of
    the folded text where there is a label, else of the whole folded conversation.
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

    def row(self) -> Row:
        """The row as it is stored."""
        messages = tuple(Message(role=role, content=content) for role, content in self.turns)
        return Row(messages=messages, **{name: getattr(self, name) for name in SHARED})

    def dropped(self, step: str, reason: str) -> DroppedRow:
        """The row as the ledger of dropped rows shows it."""
        text = self.text if self.label is not None else "\n".join(content for _, content in self.turns)
        return DroppedRow(source=self.source, line=self.line, step=step, reason=reason, text=shown(text))


Mapped = Example | DroppedRow
SHARED = ("id", "text", "label", "fields", "group", "source", "line")


class Unfit(Exception):
    """A record that cannot be mapped; the message is the reason."""


def ask(task: Task, text: str) -> tuple[Message, ...]:
    """The prompt that training rows have, for a text of one's own: the question as system prompt, the text as the turn.

    The question stands first in every row, so a pack of rows reads it once (`lm/pack.py`).
    """
    if isinstance(task, Classify):
        return (Message(role="system", content=task.question), Message(role="user", content=text.strip()))
    system = (Message(role="system", content=task.system),) if task.system else ()
    return (*system, Message(role="user", content=text))


def short_hash(*texts: str) -> str:
    """16 hex digits of the sha256 of some texts."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


@lru_cache(maxsize=4096)  # a turn comes again as context of the turns after it
def fold(text: str) -> str:
    """What makes two texts the same: NFC, and every run of white space one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def cell_text(value: Any) -> str:
    """A cell as text: 1.0 is `1`, true is `true`, nothing is empty. Raises `Unfit` for a list or an object."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Unfit("unreadable: a cell is not a finite number")
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    if isinstance(value, list | dict | bytes):
        raise Unfit(f"unreadable: a cell is a {type(value).__name__}, not text")
    return str(value)


def map_records(records: Iterable[Record], name: str, part: int, source: Source, task: Task) -> list[Mapped]:
    """An example, or a dropped row, for each record of one source. `name` is what errors call it.

    Raises `RequestError` where the source's shape does not fit the task, or a column that it names is nowhere.
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
    return mapped


def default_shape(task: Task, columns: Iterable[str]) -> Shape:
    """The shape of a source that names none: columns by their usual names."""
    if isinstance(task, Classify):
        return Labelled()
    return Conversation() if "messages" in columns else PromptReply()


def check_columns(name: str, source: Source, shape: Shape, columns: Sequence[str]) -> None:
    """Raise `RequestError`, naming the nearest column, where a column that the source names is not there."""
    wanted = {field: value for field, value in shape if field not in ("kind", "cut")}
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


def dropped_record(source: str, record: Record, step: str, reason: str) -> DroppedRow:
    """A record that became no example, as the ledger of dropped rows shows it."""
    text = record.text or json.dumps(record.cells, ensure_ascii=False, default=str)
    return DroppedRow(source=source, line=record.line, step=step, reason=reason, text=shown(text))


class Mapper:
    """Maps the records of one source. Calling it gives an `Example`, or a `DroppedRow` with its reason."""

    def __init__(self, part: int, source: Source, shape: Shape, task: Task, name: str) -> None:
        if isinstance(shape, Labelled) != isinstance(task, Classify):
            raise RequestError(
                f"source {name!r} is {shape.kind}, which does not fit task {task.kind!r}",
                "change task.kind, or give the source another shape",
            )
        self.part, self.source, self.shape, self.task = part, source, shape, task
        self.known = frozenset(task.labels) if isinstance(task, Classify) else frozenset()
        self.turns: Callable[[dict[str, Any]], tuple[tuple[Turn, ...], str, str | None]]
        if isinstance(shape, Labelled):
            self.turns = self._labelled
        else:
            self.turns = self._prompt_reply if isinstance(shape, PromptReply) else self._conversation

    def __call__(self, record: Record) -> Example | DroppedRow:
        if record.cells is None:
            return dropped_record(self.source.from_, record, "read", record.reason)
        try:
            turns, text, label = self.turns(record.cells)
            source = self.source
            kept = {name: cell_text(record.cells.get(name)).strip() for name in source.keep_fields}
            group = cell_text(record.cells.get(source.group)).strip() if source.group else ""
        except Unfit as error:
            return dropped_record(self.source.from_, record, "map", str(error))
        # Id and group do not depend on question or system prompt, so that a row keeps its id and never changes sides.
        spoken = [text] if label else [part for turn in turns if turn[0] != "system" for part in turn]
        same = short_hash(*[fold(part) for part in spoken])
        group = group or short_hash(fold(text))
        row_id = short_hash(label, same) if label else same
        fields = {**source.fields, **kept}
        return Example(self.part, source.from_, record.line, turns, text, label, fields, group, same, row_id)

    def _labelled(self, cells: dict[str, Any]) -> tuple[tuple[Turn, ...], str, str | None]:
        assert isinstance(self.shape, Labelled) and isinstance(self.task, Classify)
        text = _cell(cells, self.shape.text)
        label: str | None = _cell(cells, self.shape.label)
        if self.shape.cut is not None:
            try:
                number = float(label or "")
            except ValueError:
                number = math.nan
            if not math.isfinite(number):
                raise Unfit(f"not a number: {label}")
            label = self.shape.cut.label(number)
            if label is None:
                raise Unfit("between the cuts")
        if label not in self.known:
            raise Unfit(f"unknown label: {label}")
        prompt = tuple((message.role, message.content) for message in ask(self.task, text))
        return (*prompt, ("assistant", label)), text, label

    def _prompt_reply(self, cells: dict[str, Any]) -> tuple[tuple[Turn, ...], str, str | None]:
        assert isinstance(self.shape, PromptReply)
        prompt, reply = _cell(cells, self.shape.prompt), _cell(cells, self.shape.reply)
        return (*self._system(), ("user", prompt), ("assistant", reply)), prompt, None

    def _conversation(self, cells: dict[str, Any]) -> tuple[tuple[Turn, ...], str, str | None]:
        assert isinstance(self.shape, Conversation)
        turns = conversation_turns(cells.get(self.shape.messages))
        text = "\n".join(content for role, content in turns[:-1] if role != "system")
        return turns if turns[0][0] == "system" else (*self._system(), *turns), text, None

    def _system(self) -> tuple[Turn, ...]:
        system = self.task.system if isinstance(self.task, Reply) else None
        return (("system", system),) if system else ()


def _cell(cells: dict[str, Any], column: str) -> str:
    if column not in cells:
        raise Unfit(f"missing column: {column}")
    text = cell_text(cells[column]).strip()
    if not text:
        raise Unfit("empty")
    return text


def conversation_turns(value: Any) -> tuple[Turn, ...]:
    """The turns of a list of {role, content} (or of its JSON text); raises `Unfit` where it is none to learn from."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise Unfit("no conversation: the cell is no JSON list") from error
    if not isinstance(value, list):
        raise Unfit("no conversation: it is no list of messages")
    turns: list[Turn] = []
    for message in value:
        role, content = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
        if role not in ROLES or not isinstance(content, str):
            raise Unfit("no conversation: a message is not {role: system, user or assistant, content: text}")
        if role == "system" and turns:
            raise Unfit("no conversation: a system message stands behind others")
        if not content or content.isspace():
            raise Unfit("empty")
        turns.append((role, content))
    if not turns or turns[-1][0] != "assistant" or all(role != "user" for role, _ in turns):
        raise Unfit("no conversation: it does not end with a reply by the assistant to a user")
    return tuple(turns)
