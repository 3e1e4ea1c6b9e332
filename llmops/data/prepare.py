"""`prepare`: from a recipe's sources to rows in the workspace, with the fate of every row that was read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from llmops.core.context import Surroundings
from llmops.core.dataset import DatasetManifest, SourceRecord
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.recipe import Recipe
from llmops.core.sources import Source
from llmops.core.tasks import Task
from llmops.core.value import Value
from llmops.data.mapping import Mapped, map_records
from llmops.data.readers import read_records
from llmops.data.split import Dealt, check_dealt, deal
from llmops.store.catalogue import DATA
from llmops.store.files import building, verify_folder, write_json, write_text
from llmops.store.sources import fetch
from llmops.store.workspace import Workspace


class Part(NamedTuple):
    """One source, read and mapped."""

    record: SourceRecord
    mapped: list[Mapped]


def prepare(recipe: Recipe, workspace: Workspace) -> DatasetManifest:
    """The rows of a recipe, written once to `datasets/<id>/`: train, heldout and dropped rows, and the manifest.

    The same recipe and the same bytes give the same id on any machine. Raises `RequestError` where a source, a
    column or a label is not what the recipe says; nothing is written then.
    """
    world = workspace.world
    parts = [_part(number, source, recipe.task, world) for number, source in enumerate(recipe.data.sources)]
    dealt = deal([row for part in parts for row in part.mapped], recipe.data)
    check_dealt(dealt, recipe.task, recipe.name)
    files = {
        "train.jsonl": _lines(example.row() for example in dealt.train),
        "heldout.jsonl": _lines(example.row() for example in dealt.heldout),
        "dropped.jsonl": _lines(dealt.dropped),
    }
    manifest = DatasetManifest(
        name=recipe.name,
        task=recipe.task,
        sources=tuple(part.record for part in parts),
        rows_read=sum(part.record.rows_read for part in parts),
        rows_train=len(dealt.train),
        rows_heldout=len(dealt.heldout),
        dropped=dealt.reasons,
        files={name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()},
    )
    _store(manifest, files, workspace)
    world.say(_summary(manifest, dealt))
    return manifest


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


def _part(number: int, source: Source, task: Task, world: Surroundings) -> Part:
    """Fetch, read and map one source."""
    entry = DATA.get(source.from_)
    source = resolve(source)
    if entry is not None:
        fetched = fetch(entry.address, entry.sha256, world, entry)
        name, reader, names = source.from_, entry.reader, entry.columns
    else:
        fetched = fetch(source.from_, source.sha256, world)
        name, reader, names = fetched.address, "", ()
    records = read_records(fetched.path, name, reader, names, world.track)
    mapped = list(map_records(records, name, number, source, task))
    found = SourceRecord(from_=name, sha256=fetched.sha256, licence=source.licence, rows_read=len(mapped))
    return Part(found, mapped)


def _lines(values: Iterable[Value]) -> str:
    """One compact JSON object a line, fields in the order of their type: the same on any machine."""
    return "".join(value.model_dump_json(by_alias=True) + "\n" for value in values)


def _store(manifest: DatasetManifest, files: dict[str, str], workspace: Workspace) -> None:
    """Write the dataset's folder by one rename; one that is there already is checked and used again."""
    folder = workspace.folder(DatasetManifest, manifest.id)
    if not folder.exists():
        try:
            with building(folder) as draft:
                for name, text in files.items():
                    write_text(draft / name, text)
                write_json(draft / "manifest.json", manifest.to_json())
        except OSError:
            if not folder.exists():  # else somebody prepared the same rows at the same time
                raise
    _verify(manifest, folder)


def _verify(manifest: DatasetManifest, folder: Path) -> None:
    try:
        verify_folder(folder, manifest.files)
    except LlmopsError as error:
        raise LlmopsError(error.what, f"remove the folder {folder} and prepare again") from error


def _summary(manifest: DatasetManifest, dealt: Dealt) -> str:
    reasons = sorted(dealt.reasons.items(), key=lambda item: -item[1])
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in reasons) or "none"
    return (
        f"{manifest.id}: {manifest.rows_read:,} rows read, {manifest.rows_train:,} to train, "
        f"{manifest.rows_heldout:,} held out; dropped: {dropped}"
    )
