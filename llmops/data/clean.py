"""Rows through the steps of a recipe, chunk by chunk, each step's changes kept under a key of all that they depend on.

So the result is the same whatever the number of processes, an interrupted preparation goes on where it stopped, and
another last step does not do the first ones again.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import metadata
from itertools import groupby
from pathlib import Path

import numpy as np

from llmops.core import cleaning, keys
from llmops.core import private as private_data
from llmops.core.context import Surroundings
from llmops.core.value import digest
from llmops.data.crew import Crew
from llmops.data.passes import Chunk, Job, Placed, store_changes
from llmops.data.steps.change import Change
from llmops.data.steps.deal import Doing
from llmops.data.steps.run import numbers
from llmops.data.steps.signs import Signs, StoredColumns
from llmops.data.steps.table import ROW_STEPS, SET_STEPS
from llmops.store.files import write_json

DONE = "done.json"
LIBRARIES = ("google-re2", "numpy", "phonenumbers", "py3langid", "python-stdnum")


@cache
def code_version() -> str:
    """A digest of the code that reads, maps and cleans rows, and of the libraries that it asks."""
    found = hashlib.sha256()
    modules = [Path(str(module.__file__)) for module in (cleaning, keys, private_data)]
    for path in (*modules, *sorted(Path(__file__).parent.rglob("*.py"))):
        found.update(path.read_bytes())
    for name in LIBRARIES:
        found.update(f"{name} {metadata.version(name)}".encode())
    return found.hexdigest()


def place(steps: Sequence[Doing], rows_key: str, spared: Iterable[str], home: Path) -> list[Placed]:
    """Each step with its folder. Its name is a key of the rows, of every step up to this one, and of the code."""
    key = digest([rows_key, sorted(spared), code_version()])
    placed = []
    for step in steps:
        key = digest([key, step.to_json()])
        placed.append(Placed(step=step, folder=home / f"{step.kind}-{key[:24]}"))
    return placed


class Cleaner:
    """Does steps to chunks with a crew."""

    def __init__(self, crew: Crew, spared: Iterable[str], world: Surroundings) -> None:
        self.crew, self.spared, self.world = crew, frozenset(spared), world

    def clean(self, placed: Sequence[Placed], chunks: Iterable[Chunk]) -> list[Chunk]:
        """Do every step that is not done yet to the chunks, which may come slowly; the last one looks at all rows."""
        done: list[Placed] = []
        todo: list[Placed] = []
        coming: Iterable[Chunk] = chunks
        for step in placed:
            if step.step.kind in ROW_STEPS:
                todo.append(step)
                continue
            chunks_now = list(coming) if self._is_done([*todo, step]) else self._pass(done, todo, step, coming)
            done, todo, coming = [*done, *todo, step], [], chunks_now
        return list(coming)

    def _is_done(self, steps: Sequence[Placed]) -> bool:
        return all((step.folder / DONE).exists() for step in steps)

    def _pass(
        self, done: Sequence[Placed], todo: Sequence[Placed], step: Placed, coming: Iterable[Chunk]
    ) -> list[Chunk]:
        """The row steps before a step that looks at all rows, its signs, and its decision."""
        at = self.crew.folder / "signs"
        job = Job(done=tuple(done), todo=tuple(todo), sign=step.step, signs=at, spared=self.spared)
        what = ", ".join(one.step.kind.replace("_", " ") for one in (*todo, step))
        chunks = self.crew.do(job, coming, f"rows, 5,000 at a time: {what}", self.world.track)
        self._decide(step, chunks, at)
        shutil.rmtree(at, ignore_errors=True)
        for one in (*todo, step):
            write_json(one.folder / DONE, {"chunks": len(chunks)})
        return chunks

    def _decide(self, step: Placed, chunks: Sequence[Chunk], at: Path) -> None:
        """Say which rows go, by their signs in the folder `at`, and store it chunk by chunk."""
        signs = Signs([StoredColumns(at / chunk.name) for chunk in chunks])
        ends = np.cumsum([len(part["place"]) for part in signs.parts])
        found = SET_STEPS[step.step.kind].decide(step.step, signs, numbers(self.spared))
        verdicts = {
            chunk: list(group) for chunk, group in groupby(sorted(found), lambda verdict: chunk_of(verdict[0], ends))
        }
        for number, chunk in enumerate(chunks):
            places = signs.parts[number]["place"] if number in verdicts else ()
            start = int(ends[number - 1]) if number else 0
            changes = (Change(int(places[at - start]), reason) for at, reason in verdicts.get(number, ()))
            store_changes(step, chunk, changes)


def chunk_of(row: int, ends: np.ndarray) -> int:
    """The number of the chunk that holds a row, counted over all chunks that end where `ends` says."""
    return int(np.searchsorted(ends, row, side="right"))
