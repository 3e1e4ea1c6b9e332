"""Deduplicates examples and deals them into train and held out, by content hash."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from llmops.core.dataset import DroppedRow
from llmops.core.errors import RequestError
from llmops.core.sources import Data, Source
from llmops.core.tasks import Classify, Task
from llmops.data.mapping import Example, Mapped, fold

FEWEST_ROWS = 2  # of a label on one side: with one row, nothing is learned or measured

Side = Literal["train", "heldout"]


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


def deal(mapped: Sequence[Mapped], data: Data) -> Dealt:
    """Train and held-out examples of a recipe's sources; what goes in comes out once, on a side or dropped."""
    dropped = [row for row in mapped if isinstance(row, DroppedRow)]
    sides: dict[Side, list[Example]] = {"train": [], "heldout": []}
    side_of_text: dict[str, Side] = {}
    for example in _distinct([row for row in mapped if isinstance(row, Example)], dropped):
        side = side_of(example.group, data.heldout_share)
        if side_of_text.setdefault(fold(example.text), side) == side:
            sides[side].append(example)
        else:  # groups were given, and a text of one group stands in another too
            dropped.append(example.dropped("split", "same text on the other side"))
    for number, source in enumerate(data.sources):
        sides["train"] = _at_most(source.train_rows, number, source, sides["train"], dropped)
        sides["heldout"] = _at_most(source.heldout_rows, number, source, sides["heldout"], dropped)
    return Dealt(sides["train"], sides["heldout"], dropped)


def side_of(group: str, heldout_share: float) -> Side:
    """The side of a group: held out where its sha256, read as a fraction of 1, is below the share."""
    fraction = int.from_bytes(hashlib.sha256(f"side {group}".encode()).digest()[:8], "big") / 2**64
    return "heldout" if fraction < heldout_share else "train"


def _distinct(examples: list[Example], dropped: list[DroppedRow]) -> list[Example]:
    """The first of each set of equal examples; none where equal texts have two labels. The rest goes to `dropped`."""
    labels: dict[str, set[str | None]] = {}
    for example in examples:
        labels.setdefault(example.same, set()).add(example.label)
    seen: set[str] = set()
    kept = []
    for example in examples:
        if len(labels[example.same]) > 1:
            dropped.append(example.dropped("deduplicate", "contradictory labels"))
        elif example.same in seen:
            dropped.append(example.dropped("deduplicate", "duplicate"))
        else:
            seen.add(example.same)
            kept.append(example)
    return kept


def _at_most(
    count: int | None, part: int, source: Source, examples: list[Example], dropped: list[DroppedRow]
) -> list[Example]:
    """`examples` with at most `count` of one source: those with the smallest id, which is a hash. Order is kept."""
    mine = sorted(example.id for example in examples if example.part == part)
    if count is None or len(mine) <= count:
        return examples
    last = mine[count - 1]
    over = [example for example in examples if example.part == part and example.id > last]
    dropped.extend(example.dropped("split", f"over the {count} rows asked for") for example in over)
    return [example for example in examples if example.part != part or example.id <= last]


def check_dealt(dealt: Dealt, task: Task, name: str) -> None:
    """Raise `RequestError` where a side is empty, or holds too few rows of a label to learn or measure it."""
    dropped = "; ".join(f"{count:,} {reason}" for reason, count in dealt.reasons.items()) or "none"
    if not dealt.train or not dealt.heldout:
        raise RequestError(
            f"{name}: {len(dealt.train):,} rows to train on and {len(dealt.heldout):,} held out (dropped: {dropped})",
            "bring more rows, or check the columns, the labels and data.heldout_share in the recipe",
        )
    if not isinstance(task, Classify):
        return
    train = Counter(example.label for example in dealt.train)
    heldout = Counter(example.label for example in dealt.heldout)
    for label in task.labels:
        if min(train[label], heldout[label]) < FEWEST_ROWS:
            others = {row.reason.partition(": ")[2] for row in dealt.dropped if row.reason.startswith("unknown label")}
            found = f"; labels found but not in task.labels: {', '.join(sorted(others)[:8])}" if others else ""
            counts = f"{train[label]} training and {heldout[label]} held-out rows"
            raise RequestError(
                f"{name}: label {label!r} has {counts}, and each side needs {FEWEST_ROWS}{found}",
                f"bring more rows of {label!r}, change data.heldout_share, or take it out of task.labels",
            )
