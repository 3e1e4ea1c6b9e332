"""Readers of delimited text: CSV with its delimiter sniffed, and bare TSV. A bad line costs that line only."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from llmops.core.errors import RequestError
from llmops.data.record import Record, text_lines, unreadable

DELIMITERS = (",", ";", "\t", "|")
EXCEL_SAYS = re.compile(r"sep=(.)", re.IGNORECASE)  # the first line of some of its exports
# A quoted cell may run over lines, but an unclosed quote must not swallow the rest of the file.
LONGEST_CELL_LINES = 1000
LONGEST_CELL = 10_000_000  # characters; the csv module's own bound of 131,072 is less than many a report

Line = tuple[int, str, str]


class Lines:
    """The lines of a file by their place, read ahead as far as is asked for, and forgotten when that is said."""

    def __init__(self, path: Path) -> None:
        self._coming = text_lines(path)
        self._held: dict[int, Line] = {}
        self._read = 0

    def has(self, at: int) -> bool:
        """Whether the file has a line at this place."""
        while self._read <= at and (line := next(self._coming, None)) is not None:
            self._held[self._read] = line
            self._read += 1
        return at in self._held

    def __getitem__(self, at: int) -> Line:
        return self._held[at]

    def forget(self, at: int) -> None:
        """Let go of the line at this place."""
        del self._held[at]


def read_csv(path: Path, columns: tuple[str, ...]) -> Iterator[Record]:
    """Rows of a CSV or TSV file with a header line. Raises `RequestError` where the header cannot be used."""
    lines = Lines(path)
    start = 0
    while lines.has(start) and not lines[start][1].strip() and not lines[start][2]:
        start += 1
    if not lines.has(start):
        return
    number, text, fault = lines[start]
    if fault:
        raise RequestError(f"{path.name}, line {number}: {fault}", "save the file as UTF-8")
    said = EXCEL_SAYS.fullmatch(text)
    if said and lines.has(start + 1):
        start += 1
        number, text, _ = lines[start]
    delimiter = said[1] if said else sniff([lines[at] for at in range(start, start + 20) if lines.has(at)])
    header = [name.strip() for name in _cells(text, delimiter) or []]
    twice = sorted({name for name in header if header.count(name) > 1})
    if not header or twice:
        what = f"column {twice[0]!r} stands twice" if twice else "the header is no list of names"
        raise RequestError(f"{path.name}, line {number}: {what}", "give every column its own name in the first line")
    at = start + 1
    while lines.has(at):
        begun = at
        if lines[at][1].strip() or lines[at][2]:
            record, at = _read_record(lines, at, delimiter, header)
            yield record
        else:
            at += 1
        for done in range(begun, at):
            lines.forget(done)


def sniff(lines: Sequence[Line]) -> str:
    """The delimiter that cuts the header, and then most of the next lines, into the same number of cells."""

    def fit(delimiter: str) -> tuple[bool, float, int]:
        widths = [len(_cells(text, delimiter) or []) for _, text, _ in lines]
        same = sum(width == widths[0] for width in widths) / len(widths)
        return widths[0] > 1, same, widths[0]

    return max(DELIMITERS, key=fit)


def _cells(text: str, delimiter: str, quoted: bool = True) -> list[str] | None:
    """The cells of one record; None where a quote in it is still open, and none at all where it is malformed."""
    csv.field_size_limit(LONGEST_CELL)
    try:
        if not quoted:
            return next(csv.reader([text], delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=True), [])
        return next(csv.reader([text], delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            return None
        return _cells(text, delimiter, quoted=False) if delimiter == "\t" and quoted else []


def _read_record(lines: Lines, at: int, delimiter: str, header: list[str]) -> tuple[Record, int]:
    """The record that starts at line `at`, and where the next one starts."""
    number, text, fault = lines[at]
    if fault:
        return unreadable(number, fault, text), at + 1
    cells = _cells(text, delimiter)
    if cells is None and delimiter == "\t":  # TSV as most tools write it: a quote is a character like any other
        literal = _cells(text, delimiter, quoted=False) or []
        cells = literal if len(literal) == len(header) else None
    end = at + 1
    if cells is None:
        cells, end = _read_on(lines, at, delimiter)
    if cells is None:
        return unreadable(number, "a quote is never closed", text), at + 1
    if not cells:
        return unreadable(number, "something stands behind a closing quote, or a cell is too long", text), at + 1
    if len(cells) != len(header):
        why = f"{len(cells)} cells where the header has {len(header)}"
        return unreadable(number, why, text), end
    if [cell.strip() for cell in cells] == header:
        return unreadable(number, "the header stands here again", text), end
    return Record(number, dict(zip(header, cells, strict=True)), text=text), end


def _read_on(lines: Lines, at: int, delimiter: str) -> tuple[list[str] | None, int]:
    """The cells of a record with a quoted cell that runs over lines; None where it does not close soon and cleanly."""
    joined = lines[at][1]
    for end in range(at + 1, at + LONGEST_CELL_LINES):
        if not lines.has(end):
            break
        _, text, fault = lines[end]
        if fault:
            break
        joined += "\n" + text
        if '"' in text and (cells := _cells(joined, delimiter)) is not None:
            return cells or None, end + 1
    return None, at + 1


def read_tsv(path: Path, columns: tuple[str, ...]) -> Iterator[Record]:
    """Rows of a file without header or quoting: `columns` gives the names, tabs part the cells."""
    for number, text, fault in text_lines(path):
        if fault:
            yield unreadable(number, fault, text)
        elif text.strip():
            cells = text.split("\t")
            if len(cells) == len(columns):
                yield Record(number, dict(zip(columns, cells, strict=True)), text=text)
            else:
                yield unreadable(number, f"{len(cells)} cells where {len(columns)} are expected", text)


def read_vader(path: Path, columns: tuple[str, ...]) -> Iterator[Record]:
    """Rows of a rated corpus of VADER, with `document` (the part of the id before "_") as one more column."""
    for record in read_tsv(path, columns):
        if record.cells is not None:
            record.cells["document"] = record.cells["id"].split("_", 1)[0]
        yield record
