"""What a step sees of a row, what it may change, and how it says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from llmops.core.cleaning import Alteration
from llmops.data.mapping import Example, sameness


class Change(NamedTuple):
    """What became of the row at place `at` of those that a step was given: dropped for a reason, or altered.

    A row that a step leaves as it is has no change.
    """

    at: int
    reason: str = ""
    row: Example | None = None
    notes: tuple[Alteration, ...] = ()


class Edit(NamedTuple):
    """A text as a step leaves it, and what it changed in it: how often, and where in the text before."""

    text: str
    what: dict[str, int]
    spans: tuple[tuple[int, int, str], ...] = ()


def texts_of(row: Example) -> list[tuple[str, str]]:
    """(field, text) of everything that a row says itself: its turns (not its label), running text, the worse reply."""
    if not row.turns:
        return [("text", row.text)]
    said = row.turns if row.label is None else row.turns[:-1]
    found = [(f"turn {place}", text) for place, (_, text) in enumerate(said)]
    return found if row.rejected is None else [*found, ("rejected", row.rejected)]


def fields_of(row: Example) -> list[tuple[str, str]]:
    """(field, text) of the columns that are kept beside the text."""
    return [(f"fields.{name}", text) for name, text in row.fields.items()]


def edited(row: Example, edits: dict[str, str]) -> Example:
    """The row with new texts in some fields. It keeps its id and group: it is the row that was read, on its side."""
    turns = tuple((role, edits.get(f"turn {place}", text)) for place, (role, text) in enumerate(row.turns))
    text = edits.get("text", row.text)
    if turns != row.turns:
        text = bare_text(turns) if row.text == bare_text(row.turns) else turns[-2][1]
    fields = {name: edits.get(f"fields.{name}", kept) for name, kept in row.fields.items()}
    rejected = edits.get("rejected", row.rejected) if row.rejected is not None else None
    same = sameness(turns, text, row.label, rejected, row.liked)
    return row._replace(turns=turns, text=text, fields=fields, rejected=rejected, same=same)


def bare_text(turns: Sequence[tuple[str, str]]) -> str:
    """What a row's `text` is by its turns: all that was said before the reply."""
    return "\n".join(text for role, text in turns[:-1] if role != "system")


def alter(rows: Sequence[Example], edit: Callable[[str], Edit | None], fields: bool = False) -> Iterator[Change]:
    """The changes of a step that edits text by text; a row with a text of which nothing is left is dropped as empty."""
    for at, row in enumerate(rows):
        notes, texts = [], {}
        for field, text in (*texts_of(row), *(fields_of(row) if fields else ())):
            made = edit(text)
            if made is not None:
                texts[field] = made.text
                notes.append(noted(field, text, made))
        if any(not text.strip() for field, text in texts.items() if not field.startswith("fields.")):
            yield Change(at, "empty: nothing is left of a text")
        elif notes:
            yield Change(at, row=edited(row, texts), notes=tuple(notes))


def noted(field: str, before: str, made: Edit) -> Alteration:
    """The ledger's line on one edit."""
    return Alteration(
        field=field,
        what=made.what,
        characters_before=len(before),
        characters_after=len(made.text),
        spans=made.spans,
    )
