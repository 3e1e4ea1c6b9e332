"""Damaged files: each is made from clean rows, and nothing may change in silence.

Every cell that comes out must be what a careful reader would say, and every clean row must come out, or the file is
refused by name. What cannot be read must be dropped with its line and a reason.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from llmops.core.dataset import DroppedRow
from llmops.core.errors import LlmopsError
from llmops.core.proof import CheckResult, Size, caught
from llmops.core.sources import Labelled, Source
from llmops.core.tasks import Classify
from llmops.data import prove_samples as samples
from llmops.data.mapping import map_records
from llmops.data.readers import read_records
from llmops.store.workspace import Workspace

ROWS = samples.made(samples.labelled, 12, "files")
TASK = Classify(question="Which?", labels=("a", "b"))
PLACES: dict[Size, tuple[int, ...]] = {"ci": (0, 6, 12), "soak": tuple(range(13))}

Pair = tuple[str, str]


class Damaged(NamedTuple):
    """A file, how many of the clean rows it still holds whole, and whether it is damaged at all."""

    name: str
    content: bytes
    whole: int = 12
    bad_lines: frozenset[int] = frozenset()


def checks(size: Size, at: Workspace) -> Iterator[CheckResult]:
    """All damaged files, and the odd but whole ones that must be read unchanged."""
    at.root.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="prove-", dir=at.root) as folder:
        damaged, whole = list(damaged_files(PLACES[size])), list(whole_files())
        silent = [f"{file.name}: {said}" for file in damaged if (said := silent_change(file, Path(folder)))]
        alarms = [f"{file.name}: {said}" for file in whole if (said := silent_change(file, Path(folder), False))]
    note = "; ".join([*silent, *alarms])[:500]
    found = len(damaged) - len(silent)
    yield caught("damaged files, nothing changed in silence", found, len(damaged), len(alarms), len(whole), note)


def silent_change(file: Damaged, folder: Path, may_refuse: bool = True) -> str:
    """What changed without a word when a file was read and mapped; nothing where all is accounted for."""
    path = folder / file.name.partition(" ")[0]
    path.write_bytes(file.content)
    try:
        records = list(read_records(path, path.name))
        mapped = list(map_records(records, path.name, 0, Source(from_="path:x", shape=Labelled()), TASK))
    except LlmopsError as error:
        named = path.name in error.what and error.fix
        return "" if may_refuse and named else f"refused: {error.what}"
    clean = Counter((row["text"], row["label"]) for row in ROWS)
    dropped = [row for row in mapped if isinstance(row, DroppedRow)]
    read = Counter((row.text, str(row.label)) for row in mapped if not isinstance(row, DroppedRow))
    if strange := read - clean:
        return f"a row came out that was never there: {next(iter(strange))!r}"
    if read.total() < file.whole:
        return f"{file.whole - read.total()} whole rows are gone"
    if any(not row.reason or row.line < 1 for row in dropped):
        return "a row was dropped without line or reason"
    missing = file.bad_lines - {row.line for row in dropped}
    return f"line {min(missing)} is not accounted for" if missing else ""


def damaged_files(places: tuple[int, ...]) -> Iterator[Damaged]:
    """Every damage of a line at every place, and every damage of a whole file."""
    for name, line in BAD_JSON.items():
        for place in places:
            content = [*map(json_line, ROWS[:place]), line, *map(json_line, ROWS[place:])]
            yield Damaged(f"a.jsonl {name} at {place}", joined(content), 12, frozenset((place + 1,)))
    for name, line in BAD_CSV.items():
        for place in places:
            content = [b"text,label", *map(csv_line, ROWS[:place]), line, *map(csv_line, ROWS[place:])]
            yield Damaged(f"a.csv {name} at {place}", joined(content), 12, frozenset((place + 2,)))
    for name, change in BAD_FILES.items():
        yield Damaged(name, change(), 0)


def joined(content: list[bytes]) -> bytes:
    return b"\n".join(content) + b"\n"


def json_line(row: dict[str, Any]) -> bytes:
    return json.dumps(row).encode()


def csv_line(row: dict[str, Any]) -> bytes:
    return f'"{row["text"]}",{row["label"]}'.encode()


BAD_JSON: dict[str, bytes] = {
    "half a line": b'{"text": "cut o',
    "a list": b'["text", "a"]',
    "a number": b"3",
    "null": b"null",
    "NaN": b'{"text": NaN, "label": "a"}',
    "infinity": b'{"text": "x", "label": -Infinity}',
    "a number without end": b'{"text": 1e999, "label": "a"}',
    "more digits than a number holds": b'{"text": 0.1234567890123456789012, "label": "a"}',
    "a lone surrogate": b'{"text": "\\ud83d", "label": "a"}',
    "NUL": b'{"text": "a\0b", "label": "a"}',
    "NUL, escaped": b'{"text": "a\\u0000b", "label": "a"}',
    "no UTF-8": b'{"text": "caf\xe9", "label": "a"}',
    "a character lost before": '{"text": "caf\ufffd", "label": "a"}'.encode(),
    "read in another encoding": '{"text": "cafÃ©", "label": "a"}'.encode(),
    "a key twice": b'{"text": "x", "text": "y", "label": "a"}',
    "two objects": b'{"text": "x", "label": "a"} {"text": "y", "label": "b"}',
    "single quotes": b"{'text': 'x', 'label': 'a'}",
    "a comma too many": b'{"text": "x", "label": "a",}',
    "nested too deep": b"[" * 50_000,
    "a control character": b'{"text": "a\tb", "label": "a"}',
    "a BOM in the middle": b'\xef\xbb\xbf\xef\xbb\xbf{"text": "x", "label": "a"}',
    "a key missing": b'{"txt": "x", "label": "a"}',
    "an empty text": b'{"text": " ", "label": "a"}',
    "a text that is null": b'{"text": null, "label": "a"}',
    "a text that is a list": b'{"text": ["x"], "label": "a"}',
    "a label in another case": b'{"text": "x", "label": "A"}',
    "a label that nobody knows": b'{"text": "x", "label": "c"}',
    "merged by a carriage return": b'{"text": "x", "label": "a"}\r{"text": "y", "label": "b"}',
}

BAD_CSV: dict[str, bytes] = {
    "a cell missing": b"alone",
    "a cell too many": b"x,a,b",
    "NUL": b"a\0b,a",
    "no UTF-8": b"caf\xe9,a",
    "an open quote": b'"never closed,a',
    "text behind a quote": b'"closed" too early,a',
    "another delimiter": b"x;a",
    "the header again": b"text,label",
    "a spreadsheet's error": b"#REF!,a",
    "NaN by name": b"nan,a",
    "a cell that did not fit": b"########,a",
    "an empty label": b"x,",
    "a label that became a date": b"x,1-Feb",
    "a label that became a number": b"x,1.0",
}


def _csv(rows: samples.Rows = ROWS, delimiter: str = ",", end: str = "\n") -> str:
    return end.join([delimiter.join(("text", "label")), *(delimiter.join(row.values()) for row in rows)]) + end


def _jsonl() -> bytes:
    return joined([json_line(row) for row in ROWS])


def _parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), out)
    return out.getvalue()


def _stream() -> bytes:
    import pyarrow as pa

    out, table = BytesIO(), pa.Table.from_pylist(ROWS)
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def _drift() -> bytes:
    """Labels that are 1, 1.0 and "1" in turn: the text is another type, whatever it looks like."""
    rows = [{**row, "label": (1, 1.0, "1")[number % 3]} for number, row in enumerate(ROWS)]
    return joined([json_line(row) for row in rows])


BAD_FILES: dict[str, Callable[[], bytes]] = {
    "a.jsonl empty": lambda: b"",
    "a.jsonl a BOM and nothing else": lambda: b"\xef\xbb\xbf",
    "a.jsonl blank lines": lambda: b"\n\n \n",
    "a.jsonl NULs": lambda: b"\0" * 4096,
    "a.jsonl UTF-16": lambda: _jsonl().decode().encode("utf-16"),
    "a.jsonl UTF-16 without BOM": lambda: _jsonl().decode().encode("utf-16-le"),
    "a.jsonl UTF-32": lambda: _jsonl().decode().encode("utf-32"),
    "a.jsonl a page of zeros": lambda: _jsonl()[:400] + bytes(400) + _jsonl()[800:],
    "a.jsonl labels of three types": _drift,
    "a.jsonl CSV by another name": lambda: _csv().encode(),
    "a.jsonl.gz cut off": lambda: gzip.compress(_jsonl())[:-30],
    "a.jsonl.gz a flipped byte": lambda: bytes(
        byte ^ (255 if place == 60 else 0) for place, byte in enumerate(gzip.compress(_jsonl()))
    ),
    "a.json cut off": lambda: json.dumps(ROWS).encode()[:-40],
    "a.json a comma missing": lambda: json.dumps(ROWS).replace("}, {", "} {", 1).encode(),
    "a.json one object of columns": lambda: json.dumps({"text": {"0": "x"}, "label": {"0": "a"}}).encode(),
    "a.csv empty": lambda: b"",
    "a.csv a header and nothing else": lambda: b"text,label\n",
    "a.csv old Macintosh": lambda: _csv(end="\r").encode(),
    "a.csv a name twice": lambda: _csv().replace("text,label", "text,text", 1).encode(),
    "a.csv another delimiter in the header": lambda: _csv().replace("text,label", "text;label", 1).encode(),
    "a.csv UTF-16": lambda: _csv().encode("utf-16"),
    "a.csv a quote opened in the header": lambda: _csv().replace("text", '"text', 1).encode(),
    "a.csv no header": lambda: joined([csv_line(row) for row in ROWS]),
    "a.parquet cut off": lambda: _parquet()[:-50],
    "a.parquet its beginning lost": lambda: b"\0\0\0\0" + _parquet()[4:-4] + b"\0\0\0\0",
    "a.arrow cut off": lambda: _stream()[:-120],
    "a.arrow no Arrow": lambda: b"ARROW1 but no more",
}


def whole_files() -> Iterator[Damaged]:
    """Odd, and nothing wrong: every row must come out as it is."""
    yield Damaged("a.jsonl", b"\xef\xbb\xbf" + _jsonl().replace(b"\n", b"\r\n"))
    yield Damaged("a.jsonl without a last line end", _jsonl().rstrip(b"\n"))
    yield Damaged("a.jsonl with blank lines", _jsonl().replace(b"\n", b"\n\n"))
    yield Damaged("a.jsonl a column more here and there", _jsonl().replace(b'"label"', b'"more": 1, "label"', 3))
    yield Damaged("a.jsonl.gz", gzip.compress(_jsonl()))
    yield Damaged("a.json", json.dumps(ROWS, indent=2).encode())
    yield Damaged("a.csv", _csv().encode())
    yield Damaged("a.csv from a spreadsheet", ("\ufeffsep=;\n" + _csv(delimiter=";", end="\r\n")).encode())
    yield Damaged("a.csv cut by bars", _csv(delimiter="|").encode())
    yield Damaged("a.tsv", _csv(delimiter="\t").encode())
    yield Damaged("a.parquet", _parquet())
    yield Damaged("a.arrow", _stream())
