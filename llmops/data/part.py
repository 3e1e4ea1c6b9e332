"""Data sets made of another one's training rows: for a tournament, which must not look at the held-out rows."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from llmops.core.dataset import DatasetManifest, DroppedRow, Row
from llmops.core.errors import RequestError
from llmops.core.review import LeakGate
from llmops.core.tasks import Rate
from llmops.core.value import digest
from llmops.data.leaks import find_leaks, reason, spoken
from llmops.data.shares import Kind, differ, in_shares, kind_of, shares, surplus
from llmops.store.files import building, copy_files, sha256_file, write_json, write_jsonl
from llmops.store.workspace import Workspace

FEWEST = 10  # rows on either side
FEW = 100  # to try on: fewer tell only large differences apart
OTHER_MIX = "not in the mix of the held-out rows"


def trial_set(
    manifest: DatasetManifest, share: float, most: int | None, gate: LeakGate, at: Workspace
) -> DatasetManifest:
    """The training rows of `manifest` (at most `most`), a `share` of them held out for trials; stored.

    Whole groups go to one side, by the hash of their name, and each kind of row (source and label) to both; what leaks
    from one side into the other is dropped as in `prepare`. Where the held-out rows are of another mix of kinds, so are
    the rows for trials, as many as there are; of the held-out rows nothing else is looked at. Raises `RequestError`
    where either side would have too few rows.
    """
    rows, rated = at.rows(manifest.id, "train"), isinstance(manifest.task, Rate)
    taken = sorted(rows, key=lambda row: digest(["trial row", row.id]))[:most]
    names = {row.id for row in taken}
    rows = [row for row in rows if row.id in names]
    learn, trial = two_sides(rows, at.rows(manifest.id, "heldout"), share, rated)
    sides = {row.id for row in (*learn, *trial)}
    found = find_leaks(
        (spoken(row.to_json(), gate.same) for row in learn), (spoken(row.to_json()) for row in trial), gate
    )
    why = {leak.train: reason(leak) for leak in found.to_repair(gate.most_near)} if gate.then == "repair" else {}
    kept = [row for row in learn if row.id not in why]
    dropped = [
        DroppedRow(id=row.id, source=row.source, line=row.line, step="trial", reason=why[row.id], text="")
        for row in learn
        if row.id in why
    ]
    dropped += [
        DroppedRow(id=row.id, source=row.source, line=row.line, step="trial", reason=OTHER_MIX, text="")
        for row in rows
        if row.id not in sides
    ]
    if min(len(kept), len(trial)) < FEWEST:
        raise RequestError(
            f"{manifest.name} has {len(kept)} rows to learn from and {len(trial)} to try on: too few to choose",
            f"bring more rows, at least {3 * FEWEST}",
        )
    return _stored(manifest, kept, trial, dropped, at)


def tried_on(manifest: DatasetManifest, trial: DatasetManifest, at: Workspace) -> str:
    """Which rows a tournament is decided by, and how far they stand for the held-out ones, in words."""
    rated = isinstance(manifest.task, Rate)
    train, heldout = (at.rows(manifest.id, part) for part in ("train", "heldout"))
    tried = at.rows(trial.id, "heldout")
    all_of_them, wanted, there = (shares(rows, rated) for rows in (train, heldout, tried))
    said = f"{len(tried):,} of {len(train):,} training rows decided"
    if not differ(all_of_them, wanted, len(heldout)):
        return f"{said}, mixed as the held-out rows are."
    what, asked, had = surplus(wanted, all_of_them)
    mixes = f"{what} is {asked:.0%} of the held-out rows and {had:.0%} of the training rows"
    if differ(there, wanted, len(heldout)):
        return f"{said}, and they are not like the held-out rows: {mixes}. Bring more of {what} to learn from."
    few = f" So few tell only large differences apart: bring more of {what}." if len(tried) < FEW else ""
    return f"{said}, drawn in the mix of the held-out rows: {mixes}.{few}"


def two_sides(rows: Sequence[Row], heldout: Sequence[Row], share: float, rated: bool) -> tuple[list[Row], list[Row]]:
    """(to learn from, to try on): `share` of each kind of row is tried on.

    Where the held-out rows are of another mix, of these only as many as have it, unless too few do. The others go back
    to learn from, or to neither side where a row of their group is tried on.
    """
    learn, trial = _dealt(rows, share, rated)
    if not differ(shares(rows, rated), shares(heldout, rated), len(heldout)):
        return learn, trial
    kept = in_shares(trial, shares(heldout, rated), rated)
    kept = kept if len(kept) >= FEWEST else list(trial)
    groups = {row.group for row in kept}
    return [row for row in rows if row.group not in groups], kept


def _dealt(rows: Sequence[Row], share: float, rated: bool) -> tuple[list[Row], list[Row]]:
    """(to learn from, to try on): of each kind the groups with the smallest hashes, until the share is reached."""
    kinds: dict[Kind, list[Row]] = {}
    for row in rows:
        if row.label is not None:  # rows to replay have none, and are never tried on
            kinds.setdefault(kind_of(row, rated), []).append(row)
    chosen: set[str] = set()
    for some in kinds.values():
        taken = sum(row.group in chosen for row in some)
        for row in sorted(some, key=lambda row: digest(["trial", row.group])):
            if taken >= share * len(some):
                break
            if row.group not in chosen:
                chosen.add(row.group)
                taken += sum(other.group == row.group for other in some)
    return [row for row in rows if row.group not in chosen], [row for row in rows if row.group in chosen]


def _stored(
    manifest: DatasetManifest, learn: Sequence[Row], trial: Sequence[Row], dropped: Sequence[DroppedRow], at: Workspace
) -> DatasetManifest:
    parts = {"train.jsonl": learn, "heldout.jsonl": trial, "dropped.jsonl": dropped}
    reasons = dict(Counter(row.reason.partition(" as held-out row")[0] for row in dropped))
    with tempfile.TemporaryDirectory(prefix=".trial-", dir=at.root) as scratch:
        folder = Path(scratch)
        for name, rows in parts.items():
            write_jsonl(folder / name, (row.to_json() for row in rows))
        made = DatasetManifest(
            name=f"{manifest.name}-trial",
            task=manifest.task,
            sources=manifest.sources,
            rows_read=len(learn) + len(trial) + len(dropped),
            rows_train=len(learn),
            rows_heldout=len(trial),
            dropped=reasons,
            files={name: sha256_file(folder / name) for name in parts},
        )
        write_json(folder / "manifest.json", made.to_json())
        with (
            suppress(FileExistsError),
            building(at.folder(DatasetManifest, made.id)) as draft,
        ):  # the same id, same rows
            copy_files(folder, draft)
    return made
