"""`read_questions`: a suite from a file of rows: what is asked, what is right, which options there are.

Columns are known by their names, or said by a person; rows of another form (conversations, labelled texts) are mapped
as `llmops new` maps them. A suite is exact, so a row that cannot be asked is an error and not a loss.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Literal, NamedTuple

from llmops.core.dataset import DroppedRow, Message, Row
from llmops.core.errors import RequestError
from llmops.core.sources import Source
from llmops.core.suites import Question, make_question
from llmops.core.tasks import Classify, Task
from llmops.data.cells import Misfit, Unfit, cell, cell_text
from llmops.data.columns import PROMPT_NAMES, REPLY_NAMES, TEXT_NAMES, Column, as_columns, opened
from llmops.data.damage import lost_character
from llmops.data.guess import guess, slices
from llmops.data.mapping import map_records
from llmops.data.new import task_for
from llmops.data.readers import BY_SUFFIX, columns_of, read_records
from llmops.data.record import Record
from llmops.data.turns import prompt_turns

# The most telling names first.
ASKED = (*PROMPT_NAMES, "problem", "goal", "sentence", "stem", "messages", *TEXT_NAMES)
EXPECTED = (
    *("expected", "expected_answer", "expected_output", "gold", "gold_label", "correct_answer", "correct", "ideal"),
    *("answer", "answers", "target", "targets", "reference", "references", "solution", "label", *REPLY_NAMES),
)
OPTIONS = ("options", "choices", "alternatives", "candidates", "endings", "option", "choice")
LETTERED = re.compile(r"(?i)(?:op|opt|option|choice|ending|sol|answer)?[ _]?([a-h]|[0-9])")
SAY_BOTH = "say both: --column prompt=NAME --column expected=NAME"
MOST_OPTIONS = len(ascii_uppercase)

Show = Literal["hidden", "lettered"]


class AskedRows(NamedTuple):
    """The questions of some rows, the fields worth slicing by, and why each column was taken for what."""

    questions: tuple[Question, ...]
    slices: tuple[str, ...]
    why: tuple[str, ...]


class Roles(NamedTuple):
    """Which columns are what. `options` is one column of lists, or one column an option."""

    asked: str
    expected: str
    options: tuple[str, ...]


def read_questions(file: Path, said: Mapping[str, str] | None = None, options: Show = "hidden") -> AskedRows:
    """The questions in a file with an ending in `readers.BY_SUFFIX`. `said` maps prompt, expected or options to
    columns.

    `options` lettered shows them below each question, which a generated answer needs; hidden, they are for the
    likelihood of each. Raises `RequestError` naming file, line and reason where a row cannot be asked.
    """
    if not file.is_file():
        raise RequestError(f"there is no file {file}", f"name a file that ends in one of: {', '.join(BY_SUFFIX)}")
    records = list(read_records(file, str(file)))
    whole = columns_of(records)
    columns = as_columns(opened(whole, records), records)
    roles = roles_of(str(file), columns, said or {}, _options(whole))
    if roles is None or (options == "hidden" and not said and not roles.options and _labelled(file, records, columns)):
        return _mapped(file, records, columns)
    used = [roles.asked, roles.expected, *roles.options]
    kept = slices(columns, used)
    count_from = _counts_from(file, columns, roles)
    found = [_question(file, record, roles, kept, count_from, options) for record in records]
    why = [f"{roles.asked!r} is asked", f"{roles.expected!r} is expected"]
    why += [f"{', '.join(map(repr, roles.options))}: the options"] if roles.options else []
    return AskedRows(tuple(found), kept, tuple(why))


def roles_of(
    name: str, columns: Sequence[Column], said: Mapping[str, str], options: tuple[str, ...] = ()
) -> Roles | None:
    """The columns by what was `said`, else by their names; None where the names do not tell."""
    names = [column.name for column in columns]
    for flag, column in said.items():
        for one in column.split(","):
            if one not in names and flag != "options":
                raise RequestError(f"{name} has no column {one!r} (--{flag})", f"its columns are: {', '.join(names)}")
    options = tuple(said["options"].split(",")) if "options" in said else options
    left = [column for column in columns if column.name not in options]
    expected = said.get("expected") or _named(left, EXPECTED)
    asked = said.get("prompt") or _named([column for column in left if column.name != expected], ASKED)
    if said and not (asked and expected):
        raise RequestError(
            f"{name}: it is not clear which column is {'asked' if expected else 'expected'}",
            f"{SAY_BOTH}; columns: {', '.join(names)}",
        )
    has_turns = any(column.turns for column in columns if column.name == asked)
    if not asked or not expected or (has_turns and not said and _named(left, ("messages",)) and expected == asked):
        return None
    return Roles(asked, expected, options)


def _named(columns: Sequence[Column], names: Sequence[str]) -> str | None:
    """The column with the most telling of `names`."""
    by_name = {column.name.strip().lower(): column.name for column in columns if column.filled or column.turns}
    return next((by_name[name] for name in names if name in by_name), None)


def _options(names: Sequence[str]) -> tuple[str, ...]:
    """A column of lists named like options; or columns such as A, B, C and D, or sol1 and sol2."""
    listed = [name for name in names if name.strip().lower() in OPTIONS]
    if listed:
        return (listed[0],)
    lettered = [name for name in names if LETTERED.fullmatch(name.strip())]
    return tuple(lettered) if len(lettered) > 1 else ()


def _counts_from(file: Path, columns: Sequence[Column], roles: Roles) -> int | None:
    """Where numbers of options are counted from, 0 or 1; None where what is expected is no number of an option."""
    expected = next((column for column in columns if column.name == roles.expected), None)
    if not roles.options or expected is None or not all(re.fullmatch(r"\d{1,2}", one) for one in expected.filled):
        return None
    numbers = {int(one) for one in expected.filled}
    if 0 in numbers:
        return 0
    most = len(roles.options) if len(roles.options) > 1 else 0
    if most and max(numbers) == most:
        return 1
    raise RequestError(
        f"{file}: {roles.expected!r} holds numbers, and it is not clear whether options are counted from 0 or 1",
        "write the letter or the text of the right option",
    )


def _question(
    file: Path, record: Record, roles: Roles, kept: Sequence[str], count_from: int | None, show: Show
) -> Question:
    try:
        if record.cells is None:
            raise Unfit(record.reason)
        asked, cells = cell(record.cells, roles.asked), record.cells
        options = _texts(cells, roles.options) if roles.options else ()
        expected = tuple(
            _option(one, options, count_from) if options else one for one in _several(cell(cells, roles.expected))
        )
        if not expected:
            raise Unfit(f"empty: {roles.expected}")
        turns = prompt_turns(asked)
        if options and show == "lettered":
            turns = (*turns[:-1], (turns[-1][0], lettered(turns[-1][1], options)))
        for text in (*(content for _, content in turns), *options, *expected):
            if found := lost_character(text):
                raise Unfit(found)
        messages = tuple(Message(role=role, content=content) for role, content in turns)
        fields = {name: cell_text(cell(cells, name)).strip() for name in kept}
        group = cell_text(cells.get("group")).strip() or None
        return make_question(messages, expected, options, fields, group)
    except (Unfit, Misfit, ValueError) as error:
        raise RequestError(
            f"{file}, line {record.line}: {error}", "correct the row, or take it out of the file"
        ) from error


def lettered(question: str, options: Sequence[str]) -> str:
    """The question with its options below it, each with a letter, and what to answer."""
    lines = [f"{letter}. {option}" for letter, option in zip(ascii_uppercase, options, strict=False)]
    return "\n".join([question, "", *lines, "", "Answer with the letter of the right option."])


def _several(value: Any) -> list[str]:
    """The texts in a cell: one, or those of a list (also one that is spelt as JSON)."""
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            return [value.strip()]
    texts = [cell_text(one).strip() for one in value] if isinstance(value, list) else [cell_text(value).strip()]
    return list(dict.fromkeys(text for text in texts if text))


def _texts(cells: dict[str, Any], columns: Sequence[str]) -> tuple[str, ...]:
    """The options of a row: of the form [..], {"text": [..]} or one column each."""
    if len(columns) > 1:
        texts = [text for column in columns if (text := cell_text(cell(cells, column)).strip())]
    else:
        value = cell(cells, columns[0])
        texts = _several(value["text"] if isinstance(value, dict) and "text" in value else value)
    if not 2 <= len(texts) <= MOST_OPTIONS or len(set(texts)) != len(texts):
        raise Unfit(f"no options: {len(texts)} different texts, where 2 to {MOST_OPTIONS} are wanted")
    return tuple(texts)


def _option(expected: str, options: Sequence[str], count_from: int | None) -> str:
    """The text of the option that a cell means: by its number, its text or its letter."""
    if count_from is not None and 0 <= int(expected) - count_from < len(options):
        return options[int(expected) - count_from]
    if count_from is None and expected in options:
        return expected
    if len(expected) == 1 and expected.upper() in ascii_uppercase[: len(options)]:
        return options[ascii_uppercase.index(expected.upper())]
    raise Unfit(f"what is expected is none of the options: {expected[:80]!r}")


def _labelled(file: Path, records: Sequence[Record], columns: Sequence[Column]) -> bool:
    """Whether `llmops new` takes the rows for texts with a label of a few: these are the options of each."""
    if any(column.turns for column in columns) or "label" not in {column.name.strip().lower() for column in columns}:
        return False
    try:
        found = guess(str(file), records, {})
    except RequestError:  # `new` would ask a person; here the answers are texts, and a scorer is asked for
        return False
    return isinstance(task_for(found.shape, columns), Classify)


def _mapped(file: Path, records: Sequence[Record], columns: Sequence[Column]) -> AskedRows:
    """The questions of rows in another form, as `llmops new` would map them."""
    try:
        found = guess(str(file), records, {})
    except RequestError as error:
        raise RequestError(error.what, f"{SAY_BOTH}; columns: {', '.join(one.name for one in columns)}") from error
    kept = slices(columns, [value for field, value in found.shape if field != "kind"])
    task = task_for(found.shape, columns)
    source = Source(from_=f"path:{file.as_posix()}", shape=found.shape, keep_fields=kept)
    rows = []
    for example in map_records(records, str(file), 0, source, task):
        if isinstance(example, DroppedRow):
            what = f"{file}, line {example.line}: {example.reason}"
            raise RequestError(what, "correct the row, or take it out of the file")
        rows.append(example.row())
    return held_out(rows, task, kept, found.why)


def held_out(rows: Sequence[Row], task: Task, slices: Sequence[str] = (), why: Sequence[str] = ()) -> AskedRows:
    """Rows as questions: the prompt is asked and the reply expected, among the labels where the task has some."""
    options = task.labels if isinstance(task, Classify) else ()
    asked = [
        make_question(row.prompt if row.messages else "", (row.reply,), options, row.fields, row.group) for row in rows
    ]
    return AskedRows(tuple(asked), tuple(slices), tuple(why))
