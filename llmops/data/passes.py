"""A pass over chunks of rows: take up what earlier steps did, do some more steps, and keep what the next one needs.

A chunk is a file of rows as they were mapped; what a step did to it is a file in a folder of that step. So the rows are
written once, a step writes its changes only, and no pass holds more than one chunk in memory.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from pydantic import Field

from llmops.core.value import Value
from llmops.data.ledger import (
    Tally,
    altered_line,
    apply,
    dropped_lines,
    pack_change,
    store_lines,
    stored_lines,
    unpack,
    unpack_change,
)
from llmops.data.mapping import Example, Mapped
from llmops.data.steps.change import Change
from llmops.data.steps.deal import Deal, Doing, side_of
from llmops.data.steps.run import living, row_changes
from llmops.data.steps.signs import store_columns
from llmops.data.steps.table import SET_STEPS
from llmops.data.turns import Turn


class Placed(Value):
    """A step, and the folder where its changes are."""

    step: Doing
    folder: Path


class Job(Value):
    """What a pass does to each chunk: take up `done`, do `todo` row by row, then `sign` it, or `write` it."""

    done: tuple[Placed, ...] = ()
    todo: tuple[Placed, ...] = ()
    sign: Doing | None = Field(None, description="the step that looks at all rows, for which they are signed")
    signs: Path = Field(Path(), description="folder for the signs")
    write: Path | None = Field(None, description="folder for the chunk's part of the data set's files")
    opening: tuple[Turn, ...] = ()
    plain: frozenset[str] = frozenset()
    spared: frozenset[str] = frozenset()


class Chunk(NamedTuple):
    """The number of a chunk, which names its files everywhere, and the file of its rows."""

    number: int
    path: Path

    @property
    def name(self) -> str:
        return f"{self.number:06d}"


PARTS = ("train.jsonl", "heldout.jsonl", "dropped.jsonl", "altered.jsonl")


def work(job: Job, chunk: Chunk) -> None:
    """Do a job to one chunk."""
    rows = [unpack(line) for line in stored_lines(chunk.path)]
    history: list[tuple[str, list[Change]]] = []
    for placed in job.done:
        history.append((placed.step.kind, list(apply(rows, placed.step.kind, changes_of(placed, chunk)))))
    for placed in job.todo:
        if not changes_file(placed, chunk).exists():
            store_changes(placed, chunk, row_changes(placed.step, rows, job.spared))
        history.append((placed.step.kind, list(apply(rows, placed.step.kind, changes_of(placed, chunk)))))
    if job.sign is not None:
        places, alive = living(rows)
        columns = SET_STEPS[job.sign.kind].sign(job.sign, alive)
        store_columns(job.signs / chunk.name, {**columns, "place": np.array(places, np.uint32)})
    if job.write is not None:
        _write(job, chunk, rows, history)


def changes_file(placed: Placed, chunk: Chunk) -> Path:
    """Where a step's changes to a chunk are."""
    return placed.folder / f"{chunk.name}.jsonl"


def store_changes(placed: Placed, chunk: Chunk, changes: Iterable[Change]) -> None:
    """Write what a step did to a chunk, in the order of its rows."""
    store_lines(changes_file(placed, chunk), map(pack_change, sorted(changes, key=lambda change: change.at)))


def changes_of(placed: Placed, chunk: Chunk) -> list[Change]:
    """What a step did to a chunk."""
    return [unpack_change(line) for line in stored_lines(changes_file(placed, chunk))]


def _write(job: Job, chunk: Chunk, rows: Sequence[Mapped], history: Sequence[tuple[str, list[Change]]]) -> None:
    """A chunk's part of the data set's files, and its tallies."""
    assert job.write is not None and job.done
    deal = job.done[-1].step
    assert isinstance(deal, Deal)
    parts: dict[str, list[bytes]] = {name: [] for name in PARTS}
    labels: dict[str, dict[str, int]] = {"train": {}, "heldout": {}}
    for step, changes in history:
        for change in changes:
            if change.row is not None:
                parts["altered.jsonl"].append(_line(altered_line(change.row, step, change.notes)))
    for row in rows:
        if isinstance(row, Example):
            side = side_of(row.group, deal.heldout_share)
            labels[side][row.label or ""] = labels[side].get(row.label or "", 0) + 1
            parts[f"{side}.jsonl"].append(_line(row_line(row, job.opening, job.plain)))
    gone = [row for row in rows if not isinstance(row, Example)]
    parts["dropped.jsonl"] = [_line(line) for line in dropped_lines(gone)]
    job.write.mkdir(parents=True, exist_ok=True)
    for name, lines in parts.items():
        (job.write / f"{chunk.name}.{name}").write_bytes(b"".join(lines))
    tallies = {step: vars(tally) for step, tally in tally_steps(rows, history).items()}
    spared = sorted({row.id for row in rows} & job.spared)
    counted = {"labels": labels, "spared": spared, "tallies": tallies}
    (job.write / f"{chunk.name}.json").write_bytes(_line(counted))


def tally_steps(rows: Sequence[Mapped], history: Sequence[tuple[str, list[Change]]]) -> dict[str, Tally]:
    """What each step did, by name: `read` and `map` too. A kind that a recipe lists twice counts as `kind 2`."""
    tallies = {"read": Tally(rows_in=len(rows)), "map": Tally()}
    for early in rows:
        if not isinstance(early, Example) and early.step in tallies:
            tallies[early.step].drop(early)
    left = tallies["map"].rows_in = len(rows) - tallies["read"].dropped.total()
    left -= tallies["map"].dropped.total()
    for step, changes in history:
        tally = tallies[_next_name(step, tallies)] = Tally(rows_in=left)
        for change in changes:
            row = rows[change.at]
            if change.reason and not isinstance(row, Example):
                tally.drop(row)
            elif change.row is not None:
                tally.alter(change.row.id, change.notes)
        left -= tally.dropped.total()
    return tallies


def _next_name(step: str, taken: dict[str, Tally]) -> str:
    number = sum(name.partition(" ")[0] == step for name in taken) + 1
    return step if number == 1 else f"{step} {number}"


def row_line(row: Example, opening: Sequence[Turn], plain: Collection[str] = ()) -> dict[str, Any]:
    """A row as `train.jsonl` holds it: the fields of `Row`, in its order; what the task puts before each in front.

    Before rows of the sources in `plain` nothing is put.
    """
    bare = not row.turns or row.turns[0][0] == "system" or row.source in plain
    turns = row.turns if bare else (*opening, *row.turns)
    return {
        "id": row.id,
        "messages": [{"role": role, "content": text} for role, text in turns],
        "text": row.text,
        "label": row.label,
        "rejected": row.rejected,
        "liked": row.liked,
        "fields": row.fields,
        "group": row.group,
        "source": row.source,
        "line": row.line,
    }


def _line(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


def read_tallies(path: Path) -> dict[str, Any]:
    """What `_write` counted of a chunk, its tallies as `Tally`."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    found["tallies"] = {
        step: Tally(tally["rows_in"], Counter(tally["dropped"]), Counter(tally["altered"]), tally["examples"])
        for step, tally in found["tallies"].items()
    }
    return found
