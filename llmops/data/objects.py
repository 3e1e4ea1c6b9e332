"""Rows that a program holds: a `datasets.Dataset`, a pandas or Arrow table, or a list of dictionaries, as a file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from llmops.core.errors import RequestError
from llmops.store.files import writing

Rows = Any  # datasets.Dataset | pandas.DataFrame | pyarrow.Table | Sequence[Mapping[str, Any]]


def keep_rows(rows: Rows, folder: Path) -> Path:
    """The Parquet file that `rows` are kept in, named by their content, so that a recipe finds them tomorrow too.

    Raises `RequestError` where they are no one table of rows with names.
    """
    content = _parquet(_table(rows))
    path = folder / hashlib.sha256(content).hexdigest()[:12] / "rows.parquet"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path) as draft:
            draft.write_bytes(content)
    return path


def _table(rows: Rows) -> Any:
    import pyarrow as pa  # late: it is large

    if isinstance(rows, Mapping):
        names = ", ".join(map(repr, list(rows)[:5]))
        raise RequestError(
            f"these are {len(rows)} sets of rows ({names}), not one", "give one of them, as data['train']"
        )
    try:
        if isinstance(rows, pa.Table):
            return rows
        if hasattr(rows, "with_format") and hasattr(rows, "features"):  # a datasets.Dataset, its selection applied
            return rows.with_format("arrow")[:]
        if hasattr(rows, "columns") and hasattr(rows, "iloc"):  # a pandas table
            return pa.Table.from_pandas(rows, preserve_index=False)
        if isinstance(rows, Sequence) and rows and all(isinstance(row, Mapping) for row in rows):
            return pa.Table.from_pylist([dict(row) for row in rows])
    except (pa.ArrowException, TypeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise RequestError(f"the rows are no table: {first}", "give every column one type in all rows") from error
    raise RequestError(
        f"a {type(rows).__name__} is no table of rows",
        "give a file, a datasets.Dataset, a table or a list of dictionaries",
    )


def _parquet(table: Any) -> bytes:
    import pyarrow.parquet as pq

    out = BytesIO()
    pq.write_table(table.replace_schema_metadata(None), out)
    return out.getvalue()
