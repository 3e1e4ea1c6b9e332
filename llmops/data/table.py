"""Tables for `predict`: texts in, answers out."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from llmops.core.errors import RequestError
from llmops.data.cells import Unfit, cell_text
from llmops.data.guess import guess_text
from llmops.data.readers import columns_of, read_records
from llmops.store.files import writing

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def read_texts(path: Path, column: str | None = None) -> list[dict[str, str]]:
    """Every row of a CSV, JSONL or Parquet file, its cells as text, the texts' `column` among them.

    Raises `RequestError` where a row cannot be read (each row must get its answer) or `column` is not there.
    """
    records = list(read_records(path, str(path)))
    names = columns_of(records)
    rows = []
    for record in records:
        reason = record.reason
        try:
            if record.cells is not None:
                rows.append({name: cell_text(record.cells.get(name)) for name in names})
                continue
        except Unfit as error:
            reason = str(error)
        raise RequestError(f"{path}, line {record.line}: {reason}", "mend or remove this row: every row gets an answer")
    text_column(path, rows, column)
    return rows


def text_column(path: Path, rows: Sequence[Mapping[str, str]], column: str | None = None) -> str:
    """The column that holds the texts: `column`, or the one that looks like it; `RequestError` where unclear."""
    names = list(rows[0])
    if column is None:
        return guess_text(str(path), rows, flag="--column").column
    if column not in names:
        raise RequestError(f"{path} has no column {column!r}", f"its columns are: {', '.join(names)}")
    return column


def write_predictions(
    path: Path, rows: Sequence[Mapping[str, str]], predictions: Sequence[Mapping[str, str | float]]
) -> None:
    """Write a CSV: each row with its prediction's columns behind it, whole or not at all.

    A cell that a spreadsheet would run as a formula gets an apostrophe in front. A prediction's column whose name
    the rows have already is written as `predicted_NAME`.
    """
    before = list(rows[0]) if rows else []
    found = list(predictions[0]) if predictions else []
    names = [f"predicted_{name}" if name in before else name for name in found]
    with writing(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow([neutral(name) for name in (*before, *names)])
        for row, prediction in zip(rows, predictions, strict=True):
            cells = [*(row[name] for name in before), *(prediction[name] for name in found)]
            table.writerow([neutral(str(cell)) for cell in cells])


def neutral(cell: str) -> str:
    """The cell, with an apostrophe before what a spreadsheet would take for a formula; a plain number stays."""
    if cell.lstrip(" \n")[:1] in ("=", "+", "-", "@", "\t", "\r") and cell.strip() and not NUMBER.fullmatch(cell):
        return "'" + cell
    return cell
