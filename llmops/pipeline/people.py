"""What people do with rows: correct them, write on them, and read the card of a set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llmops.core.dataset import DatasetManifest, Row
from llmops.core.errors import RequestError
from llmops.core.people import Corrected, Correction, Note
from llmops.core.recipe import Recipe
from llmops.store.workspace import Workspace


def card(dataset: str, at: Workspace, recipe: Recipe | None = None) -> Path:
    """Write the card of a data set, `card.html` and `card.md`, beside its rows. Returns the page."""
    from llmops.data.card import write_card

    return write_card(at.get(DatasetManifest, dataset), at, recipe.data if recipe else None)


def correct(dataset: str, row: str, answer: str, at: Workspace, note: str = "") -> Corrected:
    """Put on record what a row should have been: its label, or its reply. The next set of the recipe has it so.

    Raises `RequestError` where the set has no such row, or the task no such label.
    """
    from llmops.data.people import fault

    manifest = at.get(DatasetManifest, dataset)
    found = _row(manifest, row, at)
    said = {"label" if found.label is not None else "reply": answer.strip()}
    if not answer.strip():
        raise RequestError("the correction is empty", "write the label, or the reply")
    made = Correction.model_validate({"row": row, **said, "author": at.world.author, "note": note})
    if why := fault(made, manifest.task):
        raise RequestError(why, "write one of the labels of the task")
    event = Corrected(name=manifest.name, dataset=manifest.id, correction=made, at=at.world.clock())
    at.ledger.append(event, manifest.name, row)
    return event


def write_note(dataset: str, text: str, at: Workspace, row: str | None = None, tags: Sequence[str] = ()) -> Note:
    """Write something on a row, or on a whole set."""
    manifest = at.get(DatasetManifest, dataset)
    if row is not None:
        _row(manifest, row, at)
    if not text.strip() and not tags:
        raise RequestError("the note is empty", "write a text, or tags")
    event = Note(
        name=manifest.name,
        dataset=manifest.id,
        row=row,
        text=text.strip(),
        tags=tuple(tag.strip() for tag in tags if tag.strip()),
        author=at.world.author,
        at=at.world.clock(),
    )
    at.ledger.append(event, manifest.name, row or manifest.id)
    return event


def _row(manifest: DatasetManifest, row: str, at: Workspace) -> Row:
    for part in ("train", "heldout"):
        for found in at.rows(manifest.id, part):
            if found.id == row:
                return found
    raise RequestError(f"{manifest.id} has no row {row!r}", "see the ids with 'llmops inspect' or on its card")
