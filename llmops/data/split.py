"""Cleans and deals rows in memory; and refuses sides on which nothing can be learned or measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from llmops.core.dataset import DroppedRow
from llmops.core.errors import RequestError
from llmops.core.sources import Data
from llmops.core.tasks import Classify, Task
from llmops.data.ledger import apply
from llmops.data.mapping import Example, Mapped
from llmops.data.steps.deal import Deal, Side, side_of
from llmops.data.steps.run import changes

FEWEST_ROWS = 2  # of a label on one side: with one row, nothing is learned or measured


@dataclass(frozen=True)
class Dealt:
    """Every example on its side, and every other row with the reason why it was dropped."""

    train: list[Example]
    heldout: list[Example]
    dropped: list[DroppedRow]

    @property
    def reasons(self) -> dict[str, int]:
        """Number of dropped rows by reason: the part before the colon, where there is one."""
        return dict(sorted(Counter(row.reason.partition(":")[0] for row in self.dropped).items()))


def deal(mapped: Iterable[Mapped], data: Data) -> Dealt:
    """Train and held-out examples of a recipe's sources, cleaned by its steps, exactly as `prepare` does it.

    What goes in comes out once, on a side or dropped.
    """
    rows = list(mapped)
    for step in (*data.steps, Deal.of(data)):
        for _ in apply(rows, step.kind, changes(step, rows, data.bring_back)):
            continue
    sides: dict[Side, list[Example]] = {"train": [], "heldout": []}
    for row in rows:
        if isinstance(row, Example):
            sides[side_of(row.group, data.heldout_share)].append(row)
    return Dealt(sides["train"], sides["heldout"], [row for row in rows if isinstance(row, DroppedRow)])


@dataclass(frozen=True)
class Counts:
    """How many rows of each label are on each side (`""` for rows without), and how many were dropped for what."""

    train: Mapping[str, int]
    heldout: Mapping[str, int]
    reasons: Mapping[str, int]


def check_counts(counts: Counts, task: Task, name: str, dropped: Iterable[DroppedRow]) -> None:
    """Raise `RequestError` where a side is empty, or holds too few rows of a label to learn or measure it.

    `dropped` is looked at only then, for labels that the task does not know.
    """
    train, heldout = sum(counts.train.values()), sum(counts.heldout.values())
    if not train or not heldout:
        said = "; ".join(f"{count:,} {reason}" for reason, count in counts.reasons.items()) or "none"
        raise RequestError(
            f"{name}: {train:,} rows to train on and {heldout:,} held out (dropped: {said})",
            "bring more rows, or check the columns, the labels and data.heldout_share in the recipe",
        )
    for label in task.labels if isinstance(task, Classify) else ():
        sides = counts.train.get(label, 0), counts.heldout.get(label, 0)
        if min(sides) < FEWEST_ROWS:
            others = {row.reason.partition(": ")[2] for row in dropped if row.reason.startswith("unknown label")}
            found = f"; labels found but not in task.labels: {', '.join(sorted(others)[:8])}" if others else ""
            held = f"{sides[0]} training and {sides[1]} held-out rows"
            raise RequestError(
                f"{name}: label {label!r} has {held}, and each side needs {FEWEST_ROWS}{found}",
                f"bring more rows of {label!r}, change data.heldout_share, or take it out of task.labels",
            )
