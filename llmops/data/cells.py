"""Cells: what one holds as text, and why one cannot be used."""

from __future__ import annotations

import json
import math
from typing import Any


class Unfit(Exception):
    """A record that cannot be mapped; the message is the reason, and what stands before its colon is counted."""


class Misfit(Unfit):
    """A record of another form than the source's shape says: where most are, the shape is wrong, not the rows."""


def cell_text(value: Any) -> str:
    """A cell as text: 1.0 is `1`, true is `true`, nothing is empty. Raises `Misfit` for a list or an object."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Unfit("unreadable: a cell is not a finite number")
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    if isinstance(value, list | dict | bytes):
        raise Misfit(f"unreadable: a cell is a {type(value).__name__}, not text")
    return str(value)


def has(cells: dict[str, Any], column: str) -> bool:
    """Whether a record has a column, even an empty one."""
    try:
        cell(cells, column)
    except Misfit:
        return False
    except Unfit:
        return True
    return True


def cell(cells: dict[str, Any], column: str) -> Any:
    """What stands in a column. `data.text` means `text` in the object `data` too, and `notes.0` the one note in a list.

    Raises `Misfit` where there is no such column, `Unfit` where a list holds more than the one value that is asked for.
    """
    if column in cells:
        return cells[column]
    value: Any = cells
    for part in column.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part == "0":
            if len(value) > 1:
                raise Unfit(f"{len(value)} values where one is expected: {column}")
            value = value[0] if value else None
        elif value is None and value is not cells:
            return None
        else:
            raise Misfit(f"missing column: {column}")
    return value


def filled(cells: dict[str, Any], column: str) -> str:
    """The text in a column, without the white space around it. Raises `Unfit` where there is none."""
    text = cell_text(cell(cells, column)).strip()
    if not text:
        raise Unfit(f"empty: {column}")
    return text


def described(cells: dict[str, Any], column: str) -> str:
    """A cell kept beside the text: as text, or as the JSON of a list or an object; empty where it is missing."""
    value = cell(cells, column) if has(cells, column) else None
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return cell_text(value).strip()


def optional(cells: dict[str, Any], column: str) -> str:
    """The text in a column that may be missing or empty."""
    return cell_text(cell(cells, column)).strip() if has(cells, column) else ""
