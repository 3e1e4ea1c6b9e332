"""Readers: a file in, records out, in a visible table. Every line is accounted for, readable or not."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from llmops.core.context import Track, silent
from llmops.core.errors import RequestError
from llmops.data.delimited import read_csv, read_tsv, read_vader
from llmops.data.record import UNREADABLE, Record, text_lines, unreadable

SUSPECT = re.compile(r"\\u(0000|[dD][89a-fA-F])")  # escapes that may stand for half a character, or for NUL
# Turns of context before a reply: what a chat model of 135M parameters can follow, and odd, so that a user begins.
CONTEXT_TURNS = 3

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
    """Rows of a JSON list of objects (`line` is the place in the list), or of JSON lines by another name."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"{path.name}: byte {error.start + 1} is not UTF-8", "save it as UTF-8") from error
    if not text.lstrip().startswith("["):
        yield from read_jsonl(path, columns)
        return
    try:
        rows = _parse(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path.name}: {_reason(error)}", "mend it, or write one JSON object a line") from error
    for number, row in enumerate(rows, 1):
        yield _record(number, row, str(row))


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


def read_parquet(path: Path, columns: tuple[str, ...]) -> Iterator[Record]:
    """Rows of a Parquet file; `line` is the row's number."""
    import pyarrow as pa  # late: it is large
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield Record(number, row)
    except (pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0]
        raise RequestError(f"{path.name}, after row {number}: {first}", "write the Parquet file again") from error


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
    "parquet": read_parquet,
    "chitchat": read_chitchat,
}

BY_SUFFIX = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
}


def read_records(
    path: Path, name: str, reader: str = "", columns: tuple[str, ...] = (), track: Track = silent
) -> Iterator[Record]:
    """Every record of a file, by the named reader or by the file's ending. `name` is what errors call the file.

    Raises `RequestError` where no reader fits; and, at the end, where the file is empty or mostly unreadable.
    """
    if path.is_dir():
        raise RequestError(f"{name} is a folder, not a file", "name one file of rows in it")
    kind = reader or BY_SUFFIX.get(path.suffix.lower(), "")
    if not kind:
        raise RequestError(
            f"{name} ends in {path.suffix or 'nothing'!r}, which says nothing about its rows",
            f"give it an ending that does: {', '.join(BY_SUFFIX)}",
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
