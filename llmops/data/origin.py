"""A source of a recipe: fetched, read line by line, mapped, and kept as chunks of rows, so that it is read once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import orjson

from llmops.core.context import Surroundings
from llmops.core.dataset import SourceRecord
from llmops.core.errors import RequestError
from llmops.core.recipe import Recipe
from llmops.core.sources import Source
from llmops.core.tasks import Reply, Task
from llmops.core.value import digest
from llmops.data.clean import DONE, code_version
from llmops.data.ledger import pack
from llmops.data.mapping import Example, Mapped, map_records, opening
from llmops.data.passes import Chunk
from llmops.data.readers import read_records
from llmops.store.catalogue import DATA
from llmops.store.files import read_json, write_json, writing
from llmops.store.sources import fetch

# A chunk is what one process holds at a time; long texts make it shorter.
CHUNK_ROWS = 5_000
CHUNK_BYTES = 4 * 2**20
# Of a task, what is put before rows and what is measured does not change the rows themselves.
NOT_IN_ROWS = {"question", "system", "measures", "opening"}


class Origin(NamedTuple):
    """A source with its file on this machine, and what reads it."""

    part: int
    source: Source
    task: Task
    name: str
    path: Path
    sha256: str
    reader: str
    columns: tuple[str, ...]

    @property
    def key(self) -> str:
        """A digest of all that its rows depend on."""
        task = self.task.model_dump(mode="json", exclude=NOT_IN_ROWS)
        source = self.source.replace(train_rows=None, heldout_rows=None).to_json()
        return digest([self.part, source, task, self.sha256, self.reader, self.columns, code_version()])

    def folder(self, home: Path) -> Path:
        """Where its chunks are."""
        return home / f"rows-{self.key[:24]}"

    def record(self, home: Path) -> SourceRecord:
        """The source as it was found, once it is read."""
        rows = int(read_json(self.folder(home) / DONE)["rows"])
        return SourceRecord(from_=self.name, sha256=self.sha256, licence=self.source.licence, rows_read=rows)

    def chunks(self, home: Path, world: Surroundings) -> Iterator[Path]:
        """The files of its chunks; those that are there, or else written one after the other as the source is read.

        Raises `RequestError` where the source is not what the recipe says.
        """
        folder = self.folder(home)
        if (folder / DONE).exists():
            yield from (folder / f"{number:06d}.jsonl" for number in range(read_json(folder / DONE)["chunks"]))
            return
        folder.mkdir(parents=True, exist_ok=True)
        records = read_records(self.path, self.name, self.reader, self.columns, world.track)
        mapped = map_records(records, self.name, self.part, self.source, self.task)
        rows = chunks = 0
        for lines in _cut(_lines(mapped, self.task)):
            path = folder / f"{chunks:06d}.jsonl"
            with writing(path) as draft:
                draft.write_bytes(b"".join(lines))
            rows, chunks = rows + len(lines), chunks + 1
            yield path
        write_json(folder / DONE, {"rows": rows, "chunks": chunks})


def find_origins(recipe: Recipe, world: Surroundings) -> list[Origin]:
    """Every source of a recipe, fetched; rows to replay, which are conversations whatever the task is, come last."""
    found = [find_origin(part, source, recipe.task, world) for part, source in enumerate(recipe.data.sources)]
    replay = recipe.data.replay
    return [*found, find_origin(len(found), replay.source, Reply(), world)] if replay else found


def find_origin(part: int, source: Source, task: Task, world: Surroundings) -> Origin:
    """Fetch a source. Raises `RequestError` where it is not to be had."""
    entry = DATA.get(source.from_)
    source = resolve(source)
    if entry is not None:
        fetched = fetch(entry.address, entry.sha256, world, entry)
        name, reader, columns = source.from_, entry.reader, entry.columns
    else:
        fetched = fetch(source.from_, source.sha256, world)
        name, reader, columns = fetched.address, "", ()
    return Origin(part, source, task, name, fetched.path, fetched.sha256, reader, columns)


def resolve(source: Source) -> Source:
    """A catalogue source with what the catalogue knows of it, wherever the recipe leaves it open."""
    entry = DATA.get(source.from_)
    if entry is None:
        return source
    if source.sha256 is not None and source.sha256 != entry.sha256:
        raise RequestError(
            f"source {source.from_!r} is pinned to another sha256 in the catalogue ({entry.sha256[:12]}…)",
            "leave 'sha256' out of this source",
        )
    if entry.row is None:
        raise RequestError(f"{source.from_!r} is {entry.about}, not rows to train on", "name a source of rows")
    default = Source(from_=source.from_)
    known = {**dict(entry.row), "licence": entry.licence}
    asked = {field: value for field, value in source if value != getattr(default, field)}
    return Source.model_validate({**known, **asked, "fields": {**entry.row.fields, **source.fields}})


def numbered(origins: Iterable[Origin], home: Path, world: Surroundings) -> Iterator[Chunk]:
    """The chunks of all sources, numbered through."""
    number = 0
    for origin in origins:
        for path in origin.chunks(home, world):
            yield Chunk(number, path)
            number += 1


def _lines(mapped: Iterable[Mapped], task: Task) -> Iterator[bytes]:
    """Rows as they are kept: without what the task puts before each, which comes back when they are written."""
    first = opening(task)
    for row in mapped:
        if isinstance(row, Example) and first and row.turns[:1] == first:
            row = row._replace(turns=row.turns[1:])  # noqa: PLW2901
        yield orjson.dumps(pack(row), option=orjson.OPT_APPEND_NEWLINE)


def _cut(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    size = 0
    for line in lines:
        chunk.append(line)
        size += len(line)
        if len(chunk) >= CHUNK_ROWS or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
