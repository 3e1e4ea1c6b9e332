"""Corrections by people: read from a file or from the workspace, and carried out on the rows that they name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from llmops.core.cleaning import Alteration, AlteredRow
from llmops.core.dataset import Row
from llmops.core.errors import RequestError
from llmops.core.people import Corrected, Correction
from llmops.core.tasks import Classify, Rate, Task
from llmops.data.cells import Unfit, cell_text
from llmops.data.readers import read_records
from llmops.data.shapes import number_of, spelt
from llmops.store.workspace import Workspace

WORKSPACE = "workspace"  # what a recipe calls the corrections that were made in the app
STEP = "corrections"


def corrections_of(names: Sequence[str], recipe: str, task: Task, workspace: Workspace) -> dict[str, Correction]:
    """{row id: its correction}: of the files named, and of this workspace where `workspace` is. The last one counts.

    Raises `RequestError`, with file and line, where one cannot be carried out.
    """
    found: dict[str, Correction] = {}
    for name in names:
        if name == WORKSPACE:
            said = [event.correction for event in workspace.ledger.read(Corrected, recipe)]
            found |= {one.row: one for one in said if fault(one, task) is None}
        else:
            found |= {one.row: one for one in read_corrections(Path(name), task)}
    return found


def read_corrections(path: Path, task: Task) -> list[Correction]:
    """The corrections in a CSV, JSONL or Parquet file with the columns id, label or reply, author and perhaps note."""
    if not path.is_file():
        raise RequestError(f"there is no file of corrections {path}", "check data.corrections in the recipe")
    found = []
    for record in read_records(path, str(path)):
        where = f"{path}, line {record.line}"
        try:
            cells = {name: cell_text(cell).strip() for name, cell in (record.cells or {}).items()}
        except Unfit as error:
            raise RequestError(f"{where}: {error}", "mend this line") from error
        said: dict[str, str | None] = {
            "row": cells.get("id", ""),
            "label": cells.get("label") or None,
            "reply": cells.get("reply") or None,
            "author": cells.get("author", ""),
            "note": cells.get("note", ""),
        }
        if record.cells is None or not said["row"] or not said["author"] or bool(said["label"]) == bool(said["reply"]):
            reason = record.reason or "it needs an id, an author, and either a label or a reply"
            raise RequestError(f"{where}: {reason}", "write the columns id, label (or reply), author, note")
        one = Correction.model_validate(said)
        if wrong := fault(one, task):
            raise RequestError(f"{where}: {wrong}", "correct it, or take the line out")
        found.append(one)
    return found


def fault(one: Correction, task: Task) -> str | None:
    """Why a correction does not fit the task; None where it does."""
    if isinstance(task, Classify):
        if one.label is None:
            return "a row of this task has a label, not a reply"
        return None if one.label in task.labels else f"{one.label!r} is none of the labels {', '.join(task.labels)}"
    if one.reply is None:
        return "a row of this task has a reply, not a label"
    return _wrong_number(one.reply, task) if isinstance(task, Rate) else None


def _wrong_number(said: str, task: Rate) -> str | None:
    try:
        right = spelt(number_of(said), task)
    except Unfit as error:
        return str(error)
    return None if said == right else f"{said!r} is not spelt as the task spells numbers: {right}"


def correct(rows: Iterable[Row], by_id: dict[str, Correction]) -> Iterator[tuple[Row, AlteredRow | None]]:
    """Every row as it should be, and what the ledger says of it where it was changed."""
    for row in rows:
        one = by_id.get(row.id)
        new = row if one is None else answered(row, one.label or one.reply or "")
        yield new, None if one is None or new == row else altered(row, new, STEP, f"by {one.author}")


def answered(row: Row, answer: str) -> Row:
    """The row with another label or reply. It keeps its id, group and place: it is the row that was read."""
    if not row.messages:
        return row.replace(text=answer)
    messages = (*row.messages[:-1], row.messages[-1].replace(content=answer))
    return row.replace(messages=messages, label=None if row.label is None else answer)


def altered(row: Row, new: Row, step: str, why: str) -> AlteredRow:
    """The ledger's line on a row whose answer was changed: a label is named, a reply is only counted."""
    field = "reply" if row.label is None else "label"
    what = f"{row.label} to {new.label}, {why}" if row.label is not None else f"reply {why}"
    change = Alteration(field=field, what={what: 1}, characters_before=len(row.reply), characters_after=len(new.reply))
    return AlteredRow(id=row.id, source=row.source, line=row.line, step=step, changes=(change,))
