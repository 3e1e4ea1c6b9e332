"""Readers of Arrow's files: Parquet, IPC (as `datasets` keeps them, too) and Feather. Cells keep their types."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from llmops.core.errors import RequestError
from llmops.data.record import Record, unreadable


def read_parquet(path: Path, columns: tuple[str, ...]) -> Iterator[Record]:
    """Rows of a Parquet file; `line` is the row's number."""
    import pyarrow.parquet as pq  # late: it is large

    def batches() -> Iterator[Any]:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=1024)

    yield from _rows(path, batches())


def read_arrow(path: Path, columns: tuple[str, ...]) -> Iterator[Record]:
    """Rows of an Arrow file, in the form of a file or of a stream; `line` is the row's number."""
    import pyarrow as pa

    def batches() -> Iterator[Any]:
        with pa.memory_map(str(path)) as source:
            try:
                file = pa.ipc.open_file(source)
            except pa.ArrowInvalid:
                source.seek(0)
                yield from pa.ipc.open_stream(source)
                return
            yield from (file.get_batch(number) for number in range(file.num_record_batches))

    yield from _rows(path, batches())


def _rows(path: Path, batches: Iterable[Any]) -> Iterator[Record]:
    """The rows of record batches. Raises `RequestError` where the file is damaged, or names a column twice."""
    import pyarrow as pa

    number = 0
    try:
        for batch in batches:
            names = batch.schema.names
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise RequestError(f"{path.name}: column {twice!r} stands twice", "give every column its own name")
            for row in batch.to_pylist():
                number += 1
                fault = next((found for value in row.values() if (found := _fault(value))), "")
                yield unreadable(number, fault, str(row)) if fault else Record(number, row)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise RequestError(f"{path.name}, after row {number}: {first}", "write the file again") from error


def _fault(value: Any) -> str:
    """What JSON could not hold: NUL and half characters in text, numbers without end. (NaN is told with the cell.)"""
    if isinstance(value, str):
        if "\0" in value:
            return "it holds a NUL character"
        return "it holds a lone surrogate" if any("\ud800" <= sign <= "\udfff" for sign in value) else ""
    if isinstance(value, float) and math.isinf(value):
        return "a cell is not a finite number"
    if isinstance(value, list | dict):
        inner = value.values() if isinstance(value, dict) else value
        return next((found for part in inner if (found := _fault(part))), "")
    return ""
