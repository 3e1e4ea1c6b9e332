"""The data card: what a set is made of, what was done to it, and what the checks found in what is left.

`write_card` puts `card.html` (one page, nothing fetched) and `card.md` beside the rows. They are views, not facts: they
can be deleted and made again.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.cleaning import StepCount
from llmops.core.context import Track
from llmops.core.dataset import DatasetManifest, Row
from llmops.core.findings import Bias, Diagnosis, Drift, Leaks, Review
from llmops.core.people import Corrected, Note
from llmops.core.review import BiasAudit, KeepLabels, LeakGate
from llmops.core.sources import Data
from llmops.core.tasks import Classify
from llmops.core.value import digest
from llmops.data.bias import audit
from llmops.data.doctor import diagnose
from llmops.data.drift import drift
from llmops.data.leaks import find_leaks, spoken
from llmops.data.review import REVIEW
from llmops.store.files import read_json, read_jsonl, write_text
from llmops.store.workspace import Workspace

HTML, MARKDOWN = "card.html", "card.md"
LOOKED_AT = 10_000  # rows of each side, those with the smallest hashes, for what needs a model
EXAMPLES = 3  # of each reason for which rows were dropped
SHOWN_ISSUES = 12


@dataclass
class Part:
    """One side of the split: all lengths and labels, and some rows."""

    words: list[int] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    rows: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class Card:
    """Everything that a card shows."""

    manifest: DatasetManifest
    labels: tuple[str, ...]
    parts: dict[str, Part]
    dropped: dict[str, list[dict[str, Any]]]
    altered: dict[str, Counter[str]]
    review: Review | None
    left: Leaks
    diagnosis: Diagnosis | None
    bias: Bias
    drift: Drift
    notes: list[Note]
    corrections: list[Corrected]

    def step(self, kind: str) -> list[StepCount]:
        """What the steps of a kind did."""
        return [step for step in self.manifest.steps if step.step.split(" ")[0] == kind]


def write_card(manifest: DatasetManifest, workspace: Workspace, data: Data | None = None) -> Path:
    """Write the card of a prepared set, and return its page. `data` says what a recipe wants compared and joined."""
    from llmops.data.card_page import card_html, card_markdown

    card = look(manifest, workspace, data)
    folder = workspace.folder(DatasetManifest, manifest.id)
    write_text(folder / MARKDOWN, card_markdown(card))
    write_text(folder / HTML, card_html(card))
    return folder / HTML


def look(manifest: DatasetManifest, workspace: Workspace, data: Data | None = None) -> Card:
    """Everything that the card of a set shows."""
    folder, track = workspace.folder(DatasetManifest, manifest.id), workspace.world.track
    parts = {part: read_part(folder / f"{part}.jsonl", track, part) for part in ("train", "heldout")}
    gate = data.leaks if data else LeakGate()
    train, heldout = (
        (spoken(row, gate.same) for row in read_jsonl(folder / f"{part}.jsonl")) for part in ("train", "heldout")
    )
    labels = manifest.task.labels if isinstance(manifest.task, Classify) else ()
    rows = [row for row in parts["train"].rows if row.label is not None] if labels else parts["train"].rows
    return Card(
        manifest=manifest,
        labels=labels,
        parts=parts,
        dropped=_dropped(folder),
        altered=_altered(folder),
        review=Review.model_validate(read_json(folder / REVIEW)) if (folder / REVIEW).exists() else None,
        left=find_leaks(train, heldout, gate, manifest.id),
        diagnosis=diagnose(rows, labels, KeepLabels()) if labels else None,
        bias=audit(rows, labels, data.bias if data else BiasAudit()),
        drift=drift(rows, parts["heldout"].rows, labels),
        notes=[note for note in workspace.ledger.read(Note, manifest.name) if note.dataset == manifest.id],
        corrections=workspace.ledger.read(Corrected, manifest.name),
    )


def read_part(path: Path, track: Track, what: str) -> Part:
    """One side of the split, a line at a time; of its rows the `LOOKED_AT` with the smallest hashes stay in memory."""
    part = Part()

    def seen() -> Iterator[tuple[str, int, dict[str, Any]]]:
        for number, row in enumerate(track(read_jsonl(path), f"looking at {what}")):
            said = [message["content"] for message in row["messages"] if message["role"] != "system"]
            part.words.append(sum(len(text.split()) for text in said) or len(row["text"].split()))
            part.labels[row["label"] or ""] += 1
            part.sources[row["source"]] += 1
            yield digest(["card", row["id"]]), number, row

    chosen = heapq.nsmallest(LOOKED_AT, seen())
    part.rows = [Row.model_validate(row) for _, _, row in sorted(chosen, key=lambda one: one[1])]
    return part


def _dropped(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """{step: some rows that it dropped, of each reason}."""
    found: dict[str, list[dict[str, Any]]] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for row in read_jsonl(folder / "dropped.jsonl"):
        key = row["step"], row["reason"].partition(":")[0]
        seen[key] += 1
        if seen[key] <= EXAMPLES:
            found.setdefault(row["step"], []).append(row)
    return found


def _altered(folder: Path) -> dict[str, Counter[str]]:
    """{step: what it altered, how often}."""
    found: dict[str, Counter[str]] = {}
    if not (folder / "altered.jsonl").exists():
        return found
    for row in read_jsonl(folder / "altered.jsonl"):
        for change in row["changes"]:
            found.setdefault(row["step"], Counter()).update(change["what"])
    return found


def quantile(words: list[int], share: float) -> int:
    """The number of words that `share` of the rows do not exceed."""
    return int(np.quantile(words, share)) if words else 0
