"""`prepare`: from a recipe's sources to rows in the workspace, with the fate of every row that was read."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llmops.core.cleaning import StepCount
from llmops.core.dataset import DatasetManifest, DroppedRow
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.recipe import Recipe
from llmops.core.value import digest
from llmops.data.clean import Cleaner, place
from llmops.data.crew import Crew
from llmops.data.ledger import Tally, altered_and_kept
from llmops.data.mapping import opening
from llmops.data.origin import Origin, find_origins, numbered
from llmops.data.passes import PARTS, Chunk, Job, read_tallies
from llmops.data.people import corrections_of
from llmops.data.review import REVIEW, Reviewed, review
from llmops.data.shelf import open_shelf, tidy
from llmops.data.split import Counts, check_counts
from llmops.data.steps.deal import Deal
from llmops.data.steps.terms import with_words
from llmops.store.files import building, read_jsonl, sha256_file, verify_folder, write_json
from llmops.store.workspace import Workspace


def prepare(recipe: Recipe, workspace: Workspace, processes: int | None = None) -> DatasetManifest:
    """The rows of a recipe, written once to `datasets/<id>/`: train, heldout, dropped and altered, and the manifest.

    The same recipe and the same bytes give the same id on any machine, by any number of `processes` (as many as this
    machine has for us, where None). What was done is kept in `steps/` of the workspace, so that a preparation that was
    interrupted goes on, and a changed step does not do the earlier ones again. Raises `RequestError` where a source,
    a column or a label is not what the recipe says; no data set is written then.
    """
    world, home = workspace.world, open_shelf(workspace.root)
    spared = recipe.data.bring_back
    with tempfile.TemporaryDirectory(prefix="draft-", dir=home) as scratch:
        made = Path(scratch)
        origins = find_origins(recipe, world)
        _check_fields(recipe, origins)
        rows_key = digest([origin.key for origin in origins])
        cleaning = [with_words(step, world) for step in recipe.data.steps]
        steps = place((*cleaning, Deal.of(recipe.data)), rows_key, spared, home)
        with Crew(processes or len(os.sched_getaffinity(0)), made) as crew:
            chunks = Cleaner(crew, spared, world).clean(steps, numbered(origins, home, world))
            plain = [recipe.data.replay.source.from_] if recipe.data.replay else []
            job = Job(done=tuple(steps), write=made / "parts", opening=opening(recipe.task), spared=frozenset(spared))
            job = job.replace(plain=frozenset(plain))
            crew.do(job, chunks, "rows, 5,000 at a time: written", world.track)
        count = _count(made / "parts", chunks)
        _check_brought_back(recipe, count)
        sides = Counts(count.train, count.heldout, count.reasons)
        check_counts(sides, recipe.task, recipe.name, _dropped(made / "parts", chunks))
        for name in PARTS:
            _join(made / name, made / "parts", chunks)
        said = corrections_of(recipe.data.corrections, recipe.name, recipe.task, workspace)
        reviewed = review(made, recipe, said, world)
        count.add(reviewed)
        check_counts(Counts(count.train, count.heldout, count.reasons), recipe.task, recipe.name, ())
        manifest = DatasetManifest(
            name=recipe.name,
            task=recipe.task,
            sources=tuple(origin.record(home) for origin in origins),
            rows_read=count.tallies["read"].rows_in,
            rows_train=count.train.total(),
            rows_heldout=count.heldout.total(),
            dropped=count.reasons,
            rows_altered=altered_and_kept(made),
            rows_made=sum(step.made for step in reviewed.steps),
            steps=(*(tally.count(step) for step, tally in count.tallies.items()), *reviewed.steps),
            files={name: sha256_file(made / name) for name in PARTS},
        )
        _store(manifest, made, workspace)
    tidy(home, [*(step.folder for step in steps), *(origin.folder(home) for origin in origins)], world.clock())
    world.say(_summary(manifest))
    return manifest


def _check_fields(recipe: Recipe, origins: Sequence[Origin]) -> None:
    """Raise `RequestError` where a check is to go by a field that no source has: it would find nothing, and say so."""
    known = {name for origin in origins for name in (*origin.source.fields, *origin.source.keep_fields)}
    asked = {"data.leaks.same": recipe.data.leaks.same, "data.bias.columns": recipe.data.bias.columns}
    for where, names in asked.items():
        if unknown := [name for name in names if name not in known]:
            raise RequestError(
                f"{recipe.name}: {where} names {unknown[0]!r}, which is a field of no source",
                f"list it in the source's keep_fields, or name one of: {', '.join(sorted(known)) or 'none yet'}",
            )


@dataclass
class Count:
    """What the parts of a data set hold: rows by label on each side, steps by name, rows that were brought back."""

    train: Counter[str] = field(default_factory=Counter)
    heldout: Counter[str] = field(default_factory=Counter)
    tallies: dict[str, Tally] = field(default_factory=dict)
    spared: set[str] = field(default_factory=set)
    reviewed: tuple[StepCount, ...] = ()

    @property
    def reasons(self) -> dict[str, int]:
        """Number of dropped rows by reason, over all steps."""
        total: Counter[str] = Counter()
        for tally in self.tallies.values():
            total.update(tally.dropped)
        for step in self.reviewed:
            total.update(step.dropped)
        return dict(sorted(total.items()))

    def add(self, reviewed: Reviewed) -> None:
        """Count what the review left of them."""
        self.train, self.heldout, self.reviewed = reviewed.train, reviewed.heldout, reviewed.steps


def _count(folder: Path, chunks: Sequence[Chunk]) -> Count:
    """Add up what was counted of each chunk."""
    count = Count()
    for chunk in chunks:
        found = read_tallies(folder / f"{chunk.name}.json")
        count.train.update(found["labels"]["train"])
        count.heldout.update(found["labels"]["heldout"])
        count.spared.update(found["spared"])
        for step, tally in found["tallies"].items():
            count.tallies.setdefault(step, Tally()).add(tally)
    return count


def _check_brought_back(recipe: Recipe, count: Count) -> None:
    """Raise `RequestError` where a row that is to be brought back was never read."""
    for row_id in recipe.data.bring_back:
        if row_id not in count.spared:
            raise RequestError(
                f"{recipe.name}: data.bring_back names {row_id}, which is the id of no row that was read",
                "take an id from 'llmops inspect DATASET --dropped all', or take it out of the recipe",
            )


def _dropped(folder: Path, chunks: Sequence[Chunk]) -> Iterator[DroppedRow]:
    for chunk in chunks:
        yield from map(DroppedRow.model_validate, read_jsonl(folder / f"{chunk.name}.dropped.jsonl"))


def _join(path: Path, folder: Path, chunks: Sequence[Chunk]) -> None:
    """Join the parts of one file of the data set."""
    with path.open("wb") as file:
        for chunk in chunks:
            part = folder / f"{chunk.name}.{path.name}"
            file.write(part.read_bytes())
            part.unlink()


def _store(manifest: DatasetManifest, made: Path, workspace: Workspace) -> None:
    """Move the data set's files into its folder by one rename; one that is there is checked and used again."""
    folder = workspace.folder(DatasetManifest, manifest.id)
    if not folder.exists():
        try:
            with building(folder) as draft:
                for name in (*manifest.files, REVIEW):
                    shutil.move(made / name, draft / name)
                write_json(draft / "manifest.json", manifest.to_json())
        except OSError:
            if not folder.exists():  # else somebody prepared the same rows at the same time
                raise
    try:
        verify_folder(folder, manifest.files)
    except LlmopsError as error:
        raise LlmopsError(error.what, f"remove the folder {folder} and prepare again") from error


def _summary(manifest: DatasetManifest) -> str:
    reasons = sorted(manifest.dropped.items(), key=lambda item: -item[1])
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in reasons) or "none"
    altered = f"; altered: {manifest.rows_altered:,}" if manifest.rows_altered else ""
    return (
        f"{manifest.id}: {manifest.rows_read:,} rows read, {manifest.rows_train:,} to train, "
        f"{manifest.rows_heldout:,} held out; dropped: {dropped}{altered}"
    )
