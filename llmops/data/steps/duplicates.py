"""Equal rows: one stays. Equal texts with two labels: none stays, unless a person brings one back."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from llmops.core.cleaning import Duplicates
from llmops.data.mapping import Example, sameness
from llmops.data.steps.signs import Signs, hash64, number_of_id

WORD = re.compile(r"\w+")
NO_LABEL = 0


def sign(step: Duplicates, rows: Sequence[Example]) -> dict[str, np.ndarray]:
    """32 bytes a row: what makes it equal to others, its label, its id, and a hash of all that it holds."""
    table = np.empty((4, len(rows)), np.uint64)
    for at, row in enumerate(rows):
        same = row.same if step.ignore == "white space" else words_only(row)
        everything = hash64(row.source, row.text, *(part for turn in row.turns for part in turn), *row.fields.values())
        label = NO_LABEL if row.label is None else hash64(row.label)
        table[:, at] = number_of_id(same), label, number_of_id(row.id), everything
    return {"same": table[0], "label": table[1], "id": table[2], "all": table[3]}


def words_only(row: Example) -> str:
    """What makes rows equal where case and punctuation are ignored; a text without words stays as it is."""

    def bare(text: str) -> str:
        return " ".join(WORD.findall(text.casefold())) or text

    turns = tuple((role, bare(text)) for role, text in row.turns)
    rejected = None if row.rejected is None else bare(row.rejected)
    return sameness(turns, bare(row.text), row.label, rejected, row.liked)


def decide(step: Duplicates, signs: Signs, spared: Collection[int]) -> Iterator[tuple[int, str]]:
    """(place, reason) of every row that goes. Which of equal rows stays depends on what they hold, not on their order.

    Rows whose id is in `spared` come first, and make their label the right one.
    """
    same, label, ids = signs.column("same"), signs.column("label"), signs.column("id")
    kept = np.isin(ids, np.fromiter(spared, np.uint64, len(spared)))
    order = np.lexsort((signs.column("all"), ids, ~kept, same))
    starts = np.flatnonzero(np.r_[True, same[order][1:] != same[order][:-1]]) if len(order) else np.empty(0, int)
    sizes = np.diff(np.r_[starts, len(order)])
    for start, size in zip(starts[sizes > 1], sizes[sizes > 1], strict=True):
        group = order[start : start + size]
        right = label[group[0]] if kept[group[0]] else None
        contradiction = len(set(label[group].tolist())) > 1
        for place in group[0 if contradiction and right is None else 1 :]:
            other = contradiction and label[place] != right
            yield int(place), "contradictory labels" if other else "duplicate"
