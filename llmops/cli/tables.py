"""Tables and texts as rich draws them, with nothing of what they hold obeyed by the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from llmops.cli import words


def table(*columns: str, title: str | None = None, numbers_from: int = 99) -> Table:
    """An empty table; columns from `numbers_from` on are flush right."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        made.add_column(words.clean(column), justify="right" if index >= numbers_from else "left", overflow="fold")
    return made


def text(line: str, style: str = "") -> Text:
    """Text that is shown as it is: no markup, no control characters."""
    return Text(words.clean(line), style=style)


def pairs(rows: Mapping[str, object]) -> Table:
    """Names and what they stand for, one a line."""
    made = Table(box=None, show_header=False, pad_edge=False)
    for name, what in rows.items():
        made.add_row(text(name, "dim"), text("" if what is None else str(what)))
    return made
