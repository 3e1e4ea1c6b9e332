"""`Fit`: watches the records of a source go by, and says at the end whether its shape is what they are."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

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
from llmops.core.tasks import SHAPES_OF, Reply, Task
from llmops.data.cells import Misfit, Unfit, has
from llmops.data.columns import CONTEXT_NAMES
from llmops.data.guess import guess
from llmops.data.record import Record

# Fields of a shape whose column may be missing, as long as the recipe does not name another.
MAY_BE_MISSING = frozenset(("input", "history", "system"))
# Turns and their JSON are one type with plain text: what they say is told apart by itself.
KINDS: dict[type, str] = {
    **dict.fromkeys((str, list, dict), "text"),
    **dict.fromkeys((int, float), "a number"),
    bool: "true or false",
}
SAMPLE = 50
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


def named(shape: Shape) -> dict[str, str]:
    """Field: column, of every column that a shape names."""
    return {field: value for field, value in shape if field not in ("kind", "cut", "decimal_mark")}


def default_shape(task: Task, columns: Iterable[str]) -> Shape:
    """The shape of a source that names none: columns by their usual names."""
    usual = [shape for shape in USUAL if shape.kind in SHAPES_OF[task.kind]]
    there = set(columns)
    for shape in usual:
        if there >= {column for field, column in named(shape).items() if field not in MAY_BE_MISSING}:
            return shape
    return PromptReply() if isinstance(task, Reply) else usual[0]


def wanted_columns(source: Source, shape: Shape) -> dict[str, str]:
    """What a source calls a column, and its name, for every column that must be there."""
    wanted = named(shape)
    # Where both replies are whole conversations, they hold their prompt.
    for field in MAY_BE_MISSING | ({"prompt"} if isinstance(shape, Preference) else set()):
        if field in wanted and wanted[field] == type(shape).model_fields[field].default:
            del wanted[field]
    wanted |= {f"keep_fields[{number}]": column for number, column in enumerate(source.keep_fields)}
    return wanted | ({"group": source.group} if source.group else {})


class Fit:
    """What was seen of a source's records: which columns, of which types, and how many of another form.

    Raises `RequestError` at once where the shape does not fit the task.
    """

    def __init__(self, name: str, source: Source, shape: Shape, task: Task) -> None:
        if shape.kind not in SHAPES_OF[task.kind]:
            raise RequestError(
                f"source {name!r} is {shape.kind}, which does not fit task {task.kind!r}",
                f"change task.kind, or give the source a shape that fits: {', '.join(sorted(SHAPES_OF[task.kind]))}",
            )
        self.name, self.shape, self.task = name, shape, task
        self.columns: dict[str, None] = {}
        self.missing = wanted_columns(source, shape)
        self.read = {*named(shape).values(), *source.keep_fields}
        # A number or a thumb means the same where it is written as text.
        either = ("number", "thumb", *(("label",) if getattr(shape, "cut", None) else ()))
        self.typed = [column for field, column in named(shape).items() if field not in either]
        self.typed += [*source.keep_fields, *([source.group] if source.group else [])]
        self.unread: dict[str, int] = {}  # column that belongs to the conversations: first line with something in it
        self.kinds: dict[str, tuple[str, int]] = {}  # column: what it holds, and the first line that does
        self.rows = self.strays = self.misfits = 0
        self.first: tuple[int, str] | None = None
        self.sample: list[Record] = []

    def see(self, record: Record) -> None:
        """Note what columns a record has. Raises `Unfit` where one holds another type than in the rows before."""
        cells, line = record.cells or {}, record.line
        self.rows += 1
        if not cells.keys() <= self.columns.keys():
            self.columns.update(dict.fromkeys(cells))
        if self.missing:
            self.missing = {field: column for field, column in self.missing.items() if not has(cells, column)}
        for column, value in cells.items():
            if value and column not in self.read and column.strip().lower() in CONTEXT_NAMES:
                self.unread.setdefault(column, line)
        for column in self.typed:
            self._same_type(column, cells.get(column), line)

    def _same_type(self, column: str, value: Any, line: int) -> None:
        kind = KINDS.get(type(value))
        if kind is None:
            return
        known, first = self.kinds.setdefault(column, (kind, line))
        if known != kind:
            self.strays += 1
            raise Unfit(f"type changes: {column} is {kind} here, and {known} from line {first} on")

    def misfit(self, record: Record, error: Unfit) -> None:
        """Note a record that could not be mapped."""
        if isinstance(error, Misfit):
            self.misfits += 1
            self.first = self.first or (record.line, str(error))
            if len(self.sample) < SAMPLE:
                self.sample.append(record)

    def check(self) -> None:
        """Raise `RequestError` where the shape is not what the rows are, naming line, field and the nearest form."""
        for field, column in self.missing.items():
            near = get_close_matches(column, self.columns, 1, 0.5)
            hint = f"did you mean {near[0]!r}? " if near else self._nearest()
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
        if 2 * self.strays > self.rows:
            column, (kind, line) = next(iter(self.kinds.items()))
            raise RequestError(
                f"{self.name}: most rows hold another type than line {line}, where {column!r} is {kind}",
                "give a column one type in all rows; mend that line where it is the odd one",
            )
        if self.first is not None and 2 * self.misfits > self.rows:
            raise RequestError(
                f"{self.name}, line {self.first[0]}: {self.first[1]}; {self.misfits:,} of {self.rows:,} rows do not "
                f"fit the shape {self.shape.kind!r}",
                f"{self._nearest()}'llmops new FILE' says what its rows are and writes the shape",
            )

    def _nearest(self) -> str:
        """The form that the rows seem to have, as a recipe spells it, where it can be told."""
        try:
            found = guess(self.name, self.sample, {}).shape
        except RequestError:
            return ""
        default = type(found)()
        other = [f"{field}: {column}" for field, column in named(found).items() if column != getattr(default, field)]
        if found.kind == self.shape.kind and not other:
            return ""
        return f"its rows look like shape: {{{', '.join([f'kind: {found.kind}', *other])}}}; "
