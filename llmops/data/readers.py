"""Readers: a file in, records out, in a visible table. Every line is accounted for, readable or not."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from llmops.core.context import Track, silent
from llmops.core.errors import RequestError
from llmops.data.delimited import read_csv, read_tsv, read_vader
from llmops.data.packaged import read_folders, read_passages
from llmops.data.record import UNREADABLE, Record, text_lines, unreadable
from llmops.data.tables import read_arrow, read_parquet

SUSPECT = re.compile(r"\\u(0000|[dD][89a-fA-F])")  # escapes that may stand for half a character, or for NUL
# Turns of context before a reply: what a chat model of 135M parameters can follow, and odd, so that a user begins.
CONTEXT_TURNS = 3

SAFE_DIGITS = 15  # a decimal number of so many digits comes out of a float64 as it went in

Reader = Callable[[Path, tuple[str, ...]], Iterator[Record]]


def read_jsonl(path: Path, columns: tuple[str, ...]) -> Iterator[Record]:
    """Rows of a file with one JSON object a line."""
    for number, text, fault in text_lines(path):
        if fault:
            yield unreadable(number, fault, text)
        elif text.strip():
            try:
                yield _record(number, _parse(text), text)
            except (ValueError, RecursionError) as error:
                yield unreadable(number, _reason(error), text)


def read_json(path: Path, columns: tuple[str, ...]) -> Iterator[Record]:
    """Rows of a JSON list of objects (`line` is the place in the list), or of JSON lines by another name.

    An object around one list of rows, such as {"data": [...]}, is opened. Raises `RequestError` for any other JSON.
    """
    text = _whole_text(path)
    first = text.lstrip().partition("\n")[0]
    if not text.strip() or (first.startswith("{") and _is_json(first) and "\n" in text.strip()):
        yield from read_jsonl(path, columns)
        return
    try:
        rows = _parse(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path.name}: {_reason(error)}", "mend it, or write one JSON object a line") from error
    if isinstance(rows, dict):
        lists = [value for value in rows.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
        if len(lists) != 1:
            raise RequestError(
                f"{path.name} is one JSON object with {', '.join(map(repr, list(rows)[:8]))}, not a list of rows",
                "write a list of objects, or one object a line (pandas: orient='records', lines=True)",
            )
        rows = lists[0]
    if not isinstance(rows, list):
        raise RequestError(f"{path.name} is a JSON {_kind(rows)}, not a list of rows", "write a list of objects")
    for number, row in enumerate(rows, 1):
        yield _record(number, row, str(row))


def _whole_text(path: Path) -> str:
    """All of a UTF-8 file's text without BOM. Raises `RequestError` where it is none."""
    lines = []
    for number, line, fault in text_lines(path):
        if fault:
            raise RequestError(f"{path.name}, line {number}: {fault}", "save it as UTF-8, without that character")
        lines.append(line)
    return "\n".join(lines)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def read_text(path: Path, columns: tuple[str, ...]) -> Iterator[Record]:
    """Running text as rows with one column, `text`: blocks between blank lines, or lines where no line is blank.

    `line` is where a block begins. A line that cannot be read is dropped, and parts the block that it stands in.
    """
    lines = list(text_lines(path))
    filled = [number for number, text, fault in lines if text.strip() or fault]
    blocks = bool(filled) and any(not text.strip() and not fault for _, text, fault in lines[filled[0] : filled[-1]])
    block: list[str] = []
    begin = 0
    for number, text, fault in [*lines, (len(lines) + 1, "", "")]:
        if text.strip() and not fault:
            begin = begin if block else number
            block.append(text)
        if block and (not blocks or fault or not text.strip()):
            joined = "\n".join(block)
            yield Record(begin, {"text": joined}, text=joined)
            block = []
        if fault:
            yield unreadable(number, fault, text)


def _record(number: int, row: Any, text: str) -> Record:
    if not isinstance(row, dict):
        return unreadable(number, f"it is a JSON {_kind(row)}, not an object", text)
    return Record(number, row, text=text)


def _kind(value: Any) -> str:
    kinds = {list: "list", str: "text", bool: "boolean", int: "number", float: "number", type(None): "null"}
    return kinds.get(type(value), "value")


def _parse(text: str) -> Any:
    """JSON, and nothing that JSON does not have: no NaN, no endless number, no key twice, no half a character."""
    value = json.loads(text, parse_constant=_no_number, parse_float=_finite, object_pairs_hook=_without_repeats)
    if SUSPECT.search(text):
        for part in _texts(value):
            if "\0" in part:
                raise ValueError("it holds a NUL character")
            if any("\ud800" <= character <= "\udfff" for character in part):
                raise ValueError("it holds a lone surrogate")
    return value


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        yield from (text for item in value for text in _texts(item))
        if isinstance(value, dict):
            yield from (text for item in value.values() for text in _texts(item))


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large a number")
    if len(text) > SAFE_DIGITS and Decimal(text) != Decimal(repr(number)):
        raise ValueError(f"{text[:40]} has more digits than a number can hold")
    return number


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return row


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg} (line {error.lineno}, character {error.colno})"
    return "it is nested too deep" if isinstance(error, RecursionError) else str(error)[:200]


def read_chitchat(path: Path, columns: tuple[str, ...]) -> Iterator[Record]:
    """Replies out of a JSON object of conversations between two people; `line` is the conversation's number.

    One record for each turn after the first: the turn is the assistant's reply, and one or three turns stand before
    it, so that they begin with a user. A conversation without a reply is a record with that reason.
    """
    try:
        conversations = json.loads(path.read_text(encoding="utf-8-sig"))
        for number, (key, conversation) in enumerate(conversations.items(), 1):
            turns = _turns(message for block in conversation["messages"] for message in block)
            if len(turns) < 2:
                yield Record(number, None, "no reply in the conversation", "\n".join(turns)[:500])
            for at in range(1, len(turns)):
                begin = max(0, at - CONTEXT_TURNS)
                part = turns[begin + (at - begin + 1) % 2 : at + 1]
                roles = ("user", "assistant") * (len(part) // 2)
                messages = [{"role": role, "content": text} for role, text in zip(roles, part, strict=True)]
                yield Record(
                    number,
                    {"messages": messages, "conversation": key, "opening": conversation.get("prompt") or ""},
                    text=part[-1],
                )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{path.name} is not what the reader 'chitchat' knows: {error}"
        raise RequestError(what, "fetch the source again") from error


def _turns(messages: Iterable[dict[str, Any]]) -> list[str]:
    """Consecutive messages by one sender, joined by newlines."""
    turns: list[str] = []
    last = None
    for message in messages:
        if turns and message["sender"] == last:
            turns[-1] += "\n" + message["text"]
        else:
            turns.append(message["text"])
        last = message["sender"]
    return turns


READERS: dict[str, Reader] = {
    "csv": read_csv,
    "tsv": read_tsv,
    "vader": read_vader,
    "jsonl": read_jsonl,
    "json": read_json,
    "text": read_text,
    "parquet": read_parquet,
    "arrow": read_arrow,
    "chitchat": read_chitchat,
    "folders": read_folders,
    "passages": read_passages(read_jsonl),
}

BY_SUFFIX = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".txt": "text",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}


def read_records(
    path: Path, name: str, reader: str = "", columns: tuple[str, ...] = (), track: Track = silent
) -> Iterator[Record]:
    """Every record of a file, by the named reader or by the file's ending. `name` is what errors call the file.

    Raises `RequestError` where no reader fits; and, at the end, where the file is empty or mostly unreadable.
    """
    if path.is_dir():
        raise RequestError(f"{name} is a folder, not a file", "name one file of rows in it")
    ending = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    kind = reader or BY_SUFFIX.get(ending.suffix.lower(), "")
    if not kind:
        raise RequestError(
            f"{name} ends in {path.suffix or 'nothing'!r}, which says nothing about its rows",
            f"give it an ending that does: {', '.join(BY_SUFFIX)} (export a spreadsheet as CSV)",
        )
    read, bad, first = 0, 0, None
    try:
        for record in track(READERS[kind](path, columns), f"reading {name}"):
            read += 1
            if record.reason.startswith(UNREADABLE):
                bad += 1
                first = first or record
            yield record
    except OSError as error:
        raise RequestError(f"{name} cannot be read: {error.strerror}", "check the file and its permissions") from error
    if read == 0:
        raise RequestError(f"{name} holds no rows", "it needs at least some rows (and a header, where it is a CSV)")
    if first is not None and 2 * bad > read:
        raise RequestError(
            f"{name}: {bad:,} of {read:,} rows are unreadable; the first is line {first.line}: "
            f"{first.reason.partition(': ')[2]}",
            "check that the file is what its ending says, in UTF-8, then mend or export it again",
        )


def columns_of(records: Iterable[Record]) -> list[str]:
    """The names of all columns that occur, in order of first sight."""
    return list(dict.fromkeys(name for record in records if record.cells is not None for name in record.cells))
