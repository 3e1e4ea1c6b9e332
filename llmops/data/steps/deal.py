"""The last step: each row on its side, by the hash of its group, and no more rows of a source than were asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from llmops.core.cleaning import Step
from llmops.core.sources import Data
from llmops.core.value import Value
from llmops.data.mapping import Example, fold
from llmops.data.steps.signs import Signs, hash64, number_of_id

Side = Literal["train", "heldout"]


class Deal(Value):
    """What decides a row's side: the share that is held out, and (train, heldout) rows at most of each source."""

    kind: Literal["split"] = "split"
    heldout_share: float
    most_rows: tuple[tuple[int | None, int | None], ...]

    @classmethod
    def of(cls, data: Data) -> Deal:
        """How a recipe's rows are dealt."""
        most = tuple((source.train_rows, source.heldout_rows) for source in data.sources)
        if data.replay is not None:  # its rows are learned only
            most += ((data.replay.source.train_rows, 0),)
        return cls(heldout_share=data.heldout_share, most_rows=most)


Doing = Annotated[Step | Deal, Field(discriminator="kind")]


def side_of(group: str, heldout_share: float) -> Side:
    """The side of a group: held out where its sha256, read as a fraction of 1, is below the share."""
    fraction = int.from_bytes(hashlib.sha256(f"side {group}".encode()).digest()[:8], "big") / 2**64
    return "heldout" if fraction < heldout_share else "train"


def sign(step: Deal, rows: Sequence[Example]) -> dict[str, np.ndarray]:
    """20 bytes a row: its id, a hash of its text, the number of its source, and whether its group and its text by
    themselves would be held out."""
    texts = [hash64(fold(row.text)) for row in rows]
    return {
        "id": np.array([number_of_id(row.id) for row in rows], np.uint64),
        "text": np.array(texts, np.uint64),
        "part": np.array([row.part for row in rows], np.uint16),
        "heldout": np.array([side_of(row.group, step.heldout_share) == "heldout" for row in rows], bool),
        "text_heldout": np.array([text < step.heldout_share * 2**64 for text in texts], bool),
    }


def decide(step: Deal, signs: Signs, spared: Collection[int]) -> Iterator[tuple[int, str]]:
    """(place, reason) of every row that goes: met twice, a text of the other side, over the number asked for.

    Where a text stands on both sides, because groups were given, it stays on the side that its own hash says, whoever
    is spared. Of the others those with the smallest id stay, which is a hash; spared ones first.
    """
    ids, texts = signs.column("id"), signs.column("text")
    part, heldout = signs.column("part"), signs.column("heldout")
    kept = np.isin(ids, np.fromiter(spared, np.uint64, len(spared)))
    alive = np.zeros(len(ids), bool)
    alive[np.unique(ids, return_index=True)[1]] = True
    yield from ((int(place), "duplicate") for place in np.flatnonzero(~alive))
    wanted = signs.column("text_heldout")
    torn = np.intersect1d(texts[alive & heldout], texts[alive & ~heldout])
    leaking = alive & (heldout != wanted) & np.isin(texts, torn)
    yield from ((int(place), "same text on the other side") for place in np.flatnonzero(leaking))
    alive &= ~leaking
    for number, most in enumerate(step.most_rows):
        for side, count in zip((~heldout, heldout), most, strict=True):
            mine = np.flatnonzero(alive & side & (part == number))
            if count is not None and len(mine) > count:
                over = np.sort(mine[np.lexsort((ids[mine], ~kept[mine]))][count:])
                yield from ((int(place), f"over the {count} rows asked for") for place in over)
