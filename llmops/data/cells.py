"""Cells: what one holds as text, and why one cannot be used."""

from __future__ import annotations

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


def filled(cells: dict[str, Any], column: str) -> str:
    """The text in a column, without the white space around it. Raises `Unfit` where there is none."""
    if column not in cells:
        raise Misfit(f"missing column: {column}")
    text = cell_text(cells[column]).strip()
    if not text:
        raise Unfit(f"empty: {column}")
    return text


def optional(cells: dict[str, Any], column: str) -> str:
    """The text in a column that may be missing or empty."""
    return cell_text(cells.get(column)).strip()
