"""`review`: the checks that need the whole set, on the rows as they were dealt: corrected, treated, leak-free, mixed.

It works on a folder of rows that is still a draft: `train.jsonl`, `heldout.jsonl`, `dropped.jsonl`, `altered.jsonl`.
Rows stream through; what is kept of each is its id and what the leak gate needs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmops.core.cleaning import AlteredRow, StepCount
from llmops.core.context import Surroundings
from llmops.core.dataset import DroppedRow, Row
from llmops.core.findings import Diagnosis, Leaks, Review
from llmops.core.people import Correction
from llmops.core.recipe import Recipe
from llmops.core.review import KeepLabels
from llmops.core.tasks import Classify
from llmops.core.value import Value, digest
from llmops.data.bias import chosen_swaps
from llmops.data.canaries import canary_rows
from llmops.data.doctor import diagnose, treat
from llmops.data.leaks import find_leaks, reason, spoken
from llmops.data.ledger import dropped_line, stored_lines
from llmops.data.mixture import most_rows, wanted_shares
from llmops.data.people import altered, answered, correct
from llmops.store.files import write_json, writing

REVIEW = "review.json"
EXAMPLES = 5  # of each step, in the manifest


@dataclass
class Step:
    """What one check did: to be written into the ledger, and counted."""

    name: str
    dropped: list[DroppedRow] = field(default_factory=list)
    altered: list[AlteredRow] = field(default_factory=list)
    made: list[Row] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)

    def drop(self, row: Row, why: str) -> None:
        said = row.text or "\n".join(message.content for message in row.messages)
        gone = DroppedRow(id=row.id, source=row.source, line=row.line, step=self.name, reason=why, text=said[:500])
        self.dropped.append(gone)
        self.examples.append(row.id)

    def alter(self, change: AlteredRow) -> None:
        self.altered.append(change)
        self.examples.append(change.id)

    def count(self, rows_in: int) -> StepCount:
        """As the manifest shows it."""
        reasons = Counter(row.reason.partition(":")[0] for row in self.dropped)
        whats = Counter(what for row in self.altered for change in row.changes for what in change.what)
        return StepCount(
            step=self.name,
            rows_in=rows_in,
            rows_out=rows_in - len(self.dropped) + len(self.made),
            dropped=dict(sorted(reasons.items())),
            altered=dict(sorted(whats.items())),
            made=len(self.made),
            examples=tuple(self.examples[:EXAMPLES]),
        )


@dataclass(frozen=True)
class Reviewed:
    """What is left: rows of each label on each side (`""` without one), the steps that did anything, rows altered."""

    train: Counter[str]
    heldout: Counter[str]
    steps: tuple[StepCount, ...]
    altered: int


def review(folder: Path, recipe: Recipe, corrections: dict[str, Correction], world: Surroundings) -> Reviewed:
    """Check the drafted rows in `folder` and rewrite them as the recipe decides. `review.json` says what was found.

    The order: people's corrections, labels, leaks, swaps, the mixture, canaries.
    """
    draft = Draft(folder)
    rows = sum(sum(draft.labels(part).values()) for part in ("train", "heldout"))
    steps = [_corrections(draft, corrections, world)]
    labels, diagnosis = _labels(draft, recipe, world)
    leaks, found = _leaks(draft, recipe)
    steps += [labels, leaks, _swaps(draft, recipe), _mixture(draft, recipe), _canaries(draft, recipe)]
    steps = [step for step in steps if step.examples]
    counts = []
    for step in steps:
        counts.append(step.count(rows))
        rows = counts[-1].rows_out
    draft.note(steps)
    repaired = recipe.data.leaks.then == "repair"
    made = sum(len(step.made) for step in steps if step.name == "swaps")
    summary = Review(leaks=found, repaired=repaired, diagnosis=diagnosis, made=made)
    write_json(folder / REVIEW, summary.to_json())
    _say(summary, len(leaks.dropped), world)
    touched = {change.id for step in steps for change in step.altered}
    return Reviewed(draft.labels("train"), draft.labels("heldout"), tuple(counts), len(touched))


def _say(found: Review, dropped: int, world: Surroundings) -> None:
    """What a person should know at once. `dropped`: rows that the leak gate took out."""
    leaks = found.leaks
    if leaks.found:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in leaks.kinds.items())
        what = f"{dropped:,} dropped" if found.repaired else "kept, as the recipe says"
        world.say(
            f"leak gate: {len(leaks.found):,} of {leaks.rows_train:,} training rows say what a held-out row says "
            f"({kinds}): {what}"
        )
    if found.repaired and dropped < len(leaks.found):
        world.say(
            "leak gate: so many rows are nearly the same that they look made from a pattern, and are kept; scores may "
            "be flattered. data.leaks.most_near decides"
        )
    if found.diagnosis is not None:
        world.say(f"label doctor: {found.diagnosis.because}")


class Draft:
    """The rows of a set that is being made, read and written a line at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def raw(self, part: str) -> Iterator[dict[str, Any]]:
        """The rows of a part as they stand now, as plain data: for what only looks at them."""
        return stored_lines(self.folder / f"{part}.jsonl")

    def rows(self, part: str) -> Iterator[Row]:
        """The rows of a part as they stand now."""
        return map(Row.model_validate, self.raw(part))

    def rewrite(self, part: str, change: Callable[[Iterable[Row]], Iterable[Row]]) -> None:
        """Put in a part's place what `change` makes of its rows."""
        with writing(self.folder / f"{part}.jsonl") as path, path.open("w", encoding="utf-8") as file:
            file.writelines(line_of(row) for row in change(self.rows(part)))

    def labels(self, part: str) -> Counter[str]:
        """The number of rows of each label in a part."""
        return Counter(row["label"] or "" for row in self.raw(part))

    def note(self, steps: Sequence[Step]) -> None:
        """Add what the steps did to the ledger of dropped and of altered rows."""
        dropped = [dropped_line(row) for step in steps for row in step.dropped]
        altered = [row.to_json() for step in steps for row in step.altered]
        for name, lines in (("dropped.jsonl", dropped), ("altered.jsonl", altered)):
            with (self.folder / name).open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)


def line_of(value: Value) -> str:
    """One compact JSON object, fields in the order of their type: the same on any machine."""
    return value.model_dump_json(by_alias=True) + "\n"


def _corrections(draft: Draft, corrections: dict[str, Correction], world: Surroundings) -> Step:
    """What people said. A correction that finds no row is said: its row was dropped, or never was in this set."""
    step, lost = Step("corrections"), set(corrections)

    def corrected(rows: Iterable[Row]) -> Iterator[Row]:
        for row, change in correct(rows, corrections):
            lost.discard(row.id)
            if change is not None:
                step.alter(change)
            yield row

    if corrections:
        draft.rewrite("train", corrected)
        draft.rewrite("heldout", corrected)
    if lost:
        world.say(
            f"corrections: {len(lost):,} of {len(corrections):,} name no row that is kept; the first is {min(lost)}"
        )
    return step


def _labels(draft: Draft, recipe: Recipe, world: Surroundings) -> tuple[Step, Diagnosis | None]:
    """What the label doctor does, where the recipe asks for more than a look."""
    step, doctor = Step("labels"), recipe.data.labels
    if isinstance(doctor, KeepLabels) or not isinstance(recipe.task, Classify):
        return step, None
    diagnosis = diagnose(list(draft.rows("train")), recipe.task.labels, doctor, world.track)
    gone, changed = treat(diagnosis)

    def treated(rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            if row.id in gone:
                step.drop(row, gone[row.id])
            elif row.id in changed:
                new = answered(row, changed[row.id])
                step.alter(altered(row, new, step.name, "by the label doctor"))
                yield new
            else:
                yield row

    if gone or changed:
        draft.rewrite("train", treated)
    return step, diagnosis


def _leaks(draft: Draft, recipe: Recipe) -> tuple[Step, Leaks]:
    step, gate = Step("leaks"), recipe.data.leaks
    train, heldout = ((spoken(row, gate.same) for row in draft.raw(part)) for part in ("train", "heldout"))
    found = find_leaks(train, heldout, gate)
    going = found.to_repair(gate.most_near)
    if going and gate.then == "repair":
        why = {leak.train: reason(leak) for leak in going}
        draft.rewrite("train", lambda rows: _kept(rows, why, step))
    return step, found


def _kept(rows: Iterable[Row], why: dict[str, str], step: Step) -> Iterator[Row]:
    for row in rows:
        if row.id in why:
            step.drop(row, why[row.id])
        else:
            yield row


def _swaps(draft: Draft, recipe: Recipe) -> Step:
    """Counterfactual rows to add. One that says what a held-out row says is never made."""
    step, wanted = Step("swaps"), recipe.data.bias
    if not wanted.swaps:
        return step
    made = chosen_swaps(list(draft.rows("train")), wanted)
    added, heldout = (spoken(row.to_json()) for row in made), map(spoken, draft.raw("heldout"))
    known = {leak.train for leak in find_leaks(added, heldout, recipe.data.leaks).found}
    step.made = [row for row in made if row.id not in known]
    step.examples = [row.id for row in step.made]
    draft.rewrite("train", lambda rows: (*rows, *step.made))
    return step


def _mixture(draft: Draft, recipe: Recipe) -> Step:
    """Rows over the share that the recipe gives to their source: those with the largest hashes of their ids go."""
    step, data = Step("mixture"), recipe.data
    ids: dict[str, list[str]] = {}
    if not wanted_shares(data):
        return step
    for row in draft.raw("train"):
        ids.setdefault(row["source"], []).append(row["id"])
    most = most_rows({source: len(rows) for source, rows in ids.items()}, data)
    why: dict[str, str] = {}
    for source, rows in ids.items():
        over = sorted(rows, key=lambda row: digest(["mixture", row]))[most[source] :]
        why |= dict.fromkeys(over, f"over the share of its source: {most[source]:,} rows")
    if why:
        draft.rewrite("train", lambda rows: _kept(rows, why, step))
    return step


def _canaries(draft: Draft, recipe: Recipe) -> Step:
    """Canaries to plant, each as often as the recipe says."""
    step, wanted = Step("canaries"), recipe.data.canaries
    if wanted is None:
        return step
    step.made = canary_rows(wanted, recipe.task)
    step.examples = [row.id for row in step.made]
    draft.rewrite("train", lambda rows: (*rows, *step.made))
    return step
