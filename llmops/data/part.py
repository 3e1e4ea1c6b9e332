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
from llmops.store.files import building, copy_files, sha256_file, write_json, write_jsonl
from llmops.store.workspace import Workspace

FEWEST = 10  # rows on either side


def trial_set(
    manifest: DatasetManifest, share: float, most: int | None, gate: LeakGate, at: Workspace
) -> DatasetManifest:
    """The training rows of `manifest` (at most `most`), a `share` of them held out for trials; stored.

    Whole groups go to one side, by the hash of their name, and each label to both; what leaks from one side into the
    other is dropped as in `prepare`. Raises `RequestError` where either side would have too few rows.
    """
    rows = at.rows(manifest.id, "train")
    taken = sorted(rows, key=lambda row: digest(["trial row", row.id]))[:most]
    names = {row.id for row in taken}
    learn, trial = _dealt([row for row in rows if row.id in names], share, isinstance(manifest.task, Rate))
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
    if min(len(kept), len(trial)) < FEWEST:
        raise RequestError(
            f"{manifest.name} has {len(kept)} rows to learn from and {len(trial)} to try on: too few to choose",
            f"bring more rows, at least {3 * FEWEST}",
        )
    return _stored(manifest, kept, trial, dropped, at)


def _dealt(rows: Sequence[Row], share: float, rated: bool) -> tuple[list[Row], list[Row]]:
    """(to learn from, to try on): of each label the groups with the smallest hashes, until the share is reached.

    Ratings are not looked at: nearly each would be a label of its own.
    """
    labels: dict[str, list[Row]] = {}
    for row in rows:
        if row.label is not None:  # rows to replay have none, and are never tried on
            labels.setdefault("" if rated else row.label, []).append(row)
    chosen: set[str] = set()
    for some in labels.values():
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
