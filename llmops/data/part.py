"""Data sets made of another one's training rows: for a tournament, which must not look at the held-out rows."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence, Set
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
    return trial_sets(manifest, share, most, gate, at, deals=1)[0]


def trial_sets(
    manifest: DatasetManifest, share: float, most: int | None, gate: LeakGate, at: Workspace, deals: int
) -> list[DatasetManifest]:
    """The same several times: no group is tried on twice, and what is left in the end may be fewer. Raises the same."""
    rows, rated = at.rows(manifest.id, "train"), isinstance(manifest.task, Rate)
    taken = sorted(rows, key=lambda row: digest(["trial row", row.id]))[:most]
    names = {row.id for row in taken}
    rows, heldout = [row for row in rows if row.id in names], at.rows(manifest.id, "heldout")
    made: list[DatasetManifest] = []
    tried: set[str] = set()
    for _ in range(deals):
        learn, trial = two_sides(rows, heldout, share, rated, tried)
        kept, dropped = _without_leaks(rows, learn, trial, gate)
        if min(len(kept), len(trial)) < FEWEST:
            break
        tried |= {row.group for row in trial}
        made.append(_stored(manifest, kept, trial, dropped, at))
    if not made:
        raise RequestError(
            f"{manifest.name} has {len(kept)} rows to learn from and {len(trial)} to try on: too few to choose",
            f"bring more rows, at least {3 * FEWEST}",
        )
    return made


def _without_leaks(
    rows: Sequence[Row], learn: Sequence[Row], trial: Sequence[Row], gate: LeakGate
) -> tuple[list[Row], list[DroppedRow]]:
    """(the rows to learn from that say nothing of the rows to try on, every row that is on neither side)."""
    found = find_leaks(
        (spoken(row.to_json(), gate.same) for row in learn), (spoken(row.to_json()) for row in trial), gate
    )
    why = {leak.train: reason(leak) for leak in found.to_repair(gate.most_near)} if gate.then == "repair" else {}
    kept = [row for row in learn if row.id not in why]
    sides = {row.id for row in (*kept, *trial)}
    dropped = [
        DroppedRow(
            id=row.id, source=row.source, line=row.line, step="trial", reason=why.get(row.id, OTHER_MIX), text=""
        )
        for row in rows
        if row.id not in sides
    ]
    return kept, dropped


def tried_on(manifest: DatasetManifest, deals: Sequence[DatasetManifest], at: Workspace) -> str:
    """Which rows a tournament is decided by, and how far they stand for the held-out ones, in words."""
    trial = deals[0]
    rated = isinstance(manifest.task, Rate)
    train, heldout = (at.rows(manifest.id, part) for part in ("train", "heldout"))
    tried = at.rows(trial.id, "heldout")
    all_of_them, wanted, there = (shares(rows, rated) for rows in (train, heldout, tried))
    said = f"{len(tried):,} of {len(train):,} training rows decided"
    if len(deals) > 1:
        all_tried = sum(one.rows_heldout for one in deals)
        said += f" ({all_tried:,} in {len(deals)} deals, where what is compared is fitted in a moment)"
    if not differ(all_of_them, wanted, len(heldout)):
        return f"{said}, mixed as the held-out rows are."
    what, asked, had = surplus(wanted, all_of_them)
    mixes = f"{what} is {asked:.0%} of the held-out rows and {had:.0%} of the training rows"
    if differ(there, wanted, len(heldout)):
        return f"{said}, and they are not like the held-out rows: {mixes}. Bring more of {what} to learn from."
    few = f" So few tell only large differences apart: bring more of {what}." if len(tried) < FEW else ""
    return f"{said}, drawn in the mix of the held-out rows: {mixes}.{few}"


def two_sides(
    rows: Sequence[Row], heldout: Sequence[Row], share: float, rated: bool, tried: Set[str] = frozenset()
) -> tuple[list[Row], list[Row]]:
    """(to learn from, to try on): `share` of each kind of row is tried on, but none of the groups `tried` before.

    Where the held-out rows are of another mix, of these only as many as have it, unless too few do. The others go back
    to learn from, or to neither side where a row of their group is tried on.
    """
    learn, trial = _dealt(rows, share, rated, tried)
    if not differ(shares(rows, rated), shares(heldout, rated), len(heldout)):
        return learn, trial
    kept = in_shares(trial, shares(heldout, rated), rated)
    kept = kept if len(kept) >= FEWEST else list(trial)
    groups = {row.group for row in kept}
    return [row for row in rows if row.group not in groups], kept


def _dealt(
    rows: Sequence[Row], share: float, rated: bool, tried: Set[str] = frozenset()
) -> tuple[list[Row], list[Row]]:
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
            if row.group not in chosen and row.group not in tried:
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
