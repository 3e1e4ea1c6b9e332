"""Readers of layouts that one package of the catalogue has: texts in folders, a question beside its passage."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from llmops.core.errors import RequestError
from llmops.data.record import Record

Reader = Callable[[Path, tuple[str, ...]], Iterator[Record]]


def read_folders(path: Path, columns: tuple[str, ...]) -> Iterator[Record]:
    """One row a text file of a zip: its `text`, and the name of its folder as `label`. `line` is its place by name.

    A text that is not UTF-8 is read as Windows-1252. Raises `RequestError` where it is no zip.
    """
    try:
        with zipfile.ZipFile(path) as zipped:
            for place, name in enumerate(sorted(zipped.namelist()), 1):
                raw = zipped.read(name)
                try:
                    text = raw.decode("utf-8")
                except UnicodeDecodeError:
                    text = raw.decode("cp1252", "replace")
                yield Record(place, {"text": text, "label": Path(name).parent.name, "file": name})
    except zipfile.BadZipFile as error:
        raise RequestError(f"{path.name} is no zip: {error}", "fetch it again") from error


def read_passages(reader: Reader) -> Reader:
    """What `reader` reads, with `text`: the column question and, on a line of its own, the column context."""

    def read(path: Path, columns: tuple[str, ...]) -> Iterator[Record]:
        for record in reader(path, columns):
            if record.cells is None or not {"question", "context"} <= record.cells.keys():
                yield record
            else:
                text = f"{record.cells['question']}\n{record.cells['context']}"
                yield record._replace(cells={**record.cells, "text": text})

    return read
