"""The ledger: what each step did to each row of a chunk, how it is stored, counted, and shown to people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from llmops.core.cleaning import Alteration, AlteredRow, StepCount
from llmops.core.dataset import DatasetManifest, DroppedRow
from llmops.core.errors import RequestError
from llmops.core.private import LONGEST_SCANNED, find_private, may_hold_private, replace_spans
from llmops.data.mapping import Example, Mapped
from llmops.data.steps.change import Change
from llmops.data.steps.signs import hash64
from llmops.store.files import read_jsonl, writing
from llmops.store.workspace import Workspace

EXAMPLES = 5  # of each step, in the manifest


def pack(row: Mapped) -> list[Any]:
    """A row as plain data: an example has as many items as it has fields, a dropped row is a list in a list."""
    return list(row) if isinstance(row, Example) else [[row.id, row.source, row.line, row.step, row.reason, row.text]]


def unpack(data: list[Any]) -> Mapped:
    """The row that `pack` packed."""
    if len(data) == 1:
        row_id, source, line, step, reason, text = data[0]
        return DroppedRow(id=row_id, source=source, line=line, step=step, reason=reason, text=text)
    part, source, line, turns, *others = data
    return Example(part, source, line, tuple([(role, text) for role, text in turns]), *others)


def store_lines(path: Path, lines: Iterable[Any]) -> None:
    """Write one JSON value a line, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path) as draft, draft.open("wb") as file:
        file.writelines(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)


def stored_lines(path: Path) -> Iterator[Any]:
    """The values that `store_lines` wrote."""
    with path.open("rb") as file:
        yield from map(orjson.loads, file)


def pack_change(change: Change) -> list[Any]:
    """A change as plain data."""
    if change.reason:
        return [change.at, change.reason]
    assert change.row is not None
    notes = [[n.field, n.what, n.characters_before, n.characters_after, n.spans] for n in change.notes]
    return [change.at, "", pack(change.row), notes]


def unpack_change(data: list[Any]) -> Change:
    """The change that `pack_change` packed."""
    if len(data) == 2:
        return Change(data[0], data[1])
    row = unpack(data[2])
    assert isinstance(row, Example)
    return Change(data[0], "", row, tuple(_alteration(note) for note in data[3]))


def _alteration(note: list[Any]) -> Alteration:
    where, what, before, after, spans = note
    return Alteration(
        field=where, what=what, characters_before=before, characters_after=after, spans=tuple(map(tuple, spans))
    )


def apply(rows: list[Mapped], step: str, changes: Iterable[Change]) -> Iterator[Change]:
    """Change `rows` in place; give each change again."""
    for change in changes:
        row = rows[change.at]
        assert isinstance(row, Example)
        rows[change.at] = row.dropped(step, change.reason) if change.reason or change.row is None else change.row
        yield change


@dataclass
class Tally:
    """What one step did to some rows; tallies of parts add up."""

    rows_in: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    altered: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Count another part of the rows too; its examples come behind."""
        self.rows_in += other.rows_in
        self.dropped.update(other.dropped)
        self.altered.update(other.altered)
        self.examples = [*self.examples, *other.examples][:EXAMPLES]

    def drop(self, row: DroppedRow) -> None:
        """Count a dropped row. What stands behind the colon of a reason is about that row alone."""
        self.dropped[row.reason.partition(":")[0]] += 1
        if row.id and len(self.examples) < EXAMPLES:
            self.examples.append(row.id)

    def alter(self, row_id: str, notes: Sequence[Alteration]) -> None:
        """Count an altered row, once for each kind of alteration."""
        self.altered.update({kind for note in notes for kind in note.what})
        if len(self.examples) < EXAMPLES:
            self.examples.append(row_id)

    def count(self, step: str) -> StepCount:
        """The tally as the manifest shows it."""
        return StepCount(
            step=step,
            rows_in=self.rows_in,
            rows_out=self.rows_in - self.dropped.total(),
            dropped=dict(sorted(self.dropped.items())),
            altered=dict(sorted(self.altered.items())),
            examples=tuple(self.examples),
        )


def dropped_lines(rows: Sequence[DroppedRow]) -> list[dict[str, Any]]:
    """Dropped rows as `dropped.jsonl` holds them; only those worth a closer look get one."""
    suspects = set(may_hold_private([row.text for row in rows]))
    return [dropped_line(row) if at in suspects else dict(row) for at, row in enumerate(rows)]


def dropped_line(row: DroppedRow) -> dict[str, Any]:
    """A dropped row as `dropped.jsonl` holds it: private data masked, whatever steps the recipe names."""
    text = row.text[:LONGEST_SCANNED]
    spans = find_private(text)
    return {**dict(row), "text": replace_spans(text, spans) if spans else text}


def altered_line(row: Example, step: str, notes: Sequence[Alteration]) -> dict[str, Any]:
    """An alteration as `altered.jsonl` holds it: what and where, never the text itself."""
    changes = tuple(notes)
    return AlteredRow(id=row.id, source=row.source, line=row.line, step=step, changes=changes).to_json()


def dropped_rows(dataset: str, workspace: Workspace) -> list[DroppedRow]:
    """Every row that was read for a data set and not kept, in the order in which they were read."""
    return [DroppedRow.model_validate(row) for row in _ledger_file(dataset, "dropped.jsonl", workspace)]


def altered_rows(dataset: str, workspace: Workspace) -> list[AlteredRow]:
    """Every alteration of a row of a data set. Raises `RequestError` for an old set without them."""
    return [AlteredRow.model_validate(row) for row in _ledger_file(dataset, "altered.jsonl", workspace)]


def altered_and_kept(folder: Path) -> int:
    """How many of the rows that the ledger in a folder says were altered are not dropped: about 60 bytes a row."""

    def rows(name: str) -> Iterator[int]:
        return (hash64(row["id"], row["source"], str(row["line"])) for row in stored_lines(folder / name))

    altered = set(rows("altered.jsonl"))
    altered.difference_update(rows("dropped.jsonl"))
    return len(altered)


def _ledger_file(dataset: str, name: str, workspace: Workspace) -> Iterator[dict[str, Any]]:
    manifest = workspace.get(DatasetManifest, dataset)
    if name not in manifest.files:
        raise RequestError(f"{manifest.id} has no {name}", "prepare its recipe again")
    return read_jsonl(workspace.folder(DatasetManifest, manifest.id) / name)
