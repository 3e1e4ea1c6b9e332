"""The leak gate: which training rows say what a held-out row says, and the training rows that are left without them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from llmops.core.findings import Leak, LeakKind, Leaks
from llmops.core.review import LeakGate
from llmops.data.overlap import GRAM, Overlap, Pairs


class Spoken(NamedTuple):
    """A row as the gate sees it: its name, what is said in it, and what it belongs to."""

    id: str
    text: str
    sources: tuple[str, ...]


def spoken(row: Mapping[str, Any], same: Iterable[str] = ()) -> Spoken:
    """A row's plain data as the gate sees it: the text where there is a label, else all but the system prompts."""
    said = [message["content"] for message in row["messages"] if message["role"] != "system"]
    text = row["text"] if row.get("label") is not None or not said else "\n".join(said)
    fields = row.get("fields", {})
    sources = [f"group {row['group']}", *(f"{name} {fields[name]}" for name in same if fields.get(name))]
    return Spoken(row["id"], text, tuple(sources))


def find_leaks(train: Iterable[Spoken], heldout: Iterable[Spoken], gate: LeakGate, against: str = "") -> Leaks:
    """Every training row that an exact, normalised, 13-gram, near or group match joins to a held-out row, once.

    Keeps 4 bytes a word and about 200 bytes a row, and no text: both sides may be read from a file as they come.
    """
    sides = [_Side(), _Side()]
    overlap = Overlap(*(side.texts(rows) for side, rows in zip(sides, (train, heldout), strict=True)))
    left, right = sides
    leaks: dict[int, Leak] = {}
    touched: set[int] = set()
    for kind, pairs in _pairs(overlap, left, right, gate):
        touched.update(pairs.right_P.tolist())
        for mine, theirs, alike in zip(pairs.left_P.tolist(), pairs.right_P.tolist(), pairs.alike_P, strict=True):
            if mine not in leaks:
                leak = Leak(train=left.ids[mine], heldout=right.ids[theirs], kind=kind, alike=round(float(alike), 3))
                leaks[mine] = leak
    return Leaks(
        against=against,
        rows_train=len(left.ids),
        rows_heldout=len(right.ids),
        found=tuple(leaks[row] for row in sorted(leaks)),
        touched=tuple(right.ids[row] for row in sorted(touched)),
    )


def reason(leak: Leak) -> str:
    """Why a training row had to go, as the ledger of dropped rows says it."""
    likeness = f" ({leak.alike:.0%} alike)" if leak.kind == "near" else ""
    what = {
        "exact": "the same text",
        "normalised": "the same words",
        "13-gram": f"{GRAM} words in a row",
        "near": "nearly the same text",
        "group": "the same source",
    }[leak.kind]
    return f"leak: {what} as held-out row {leak.heldout}{likeness}"


class _Side:
    """One part of the split, read once: what is kept of it is its rows' ids, the hashes of texts, and the sources."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.hashes: list[int] = []
        self.sources: dict[str, list[int]] = {}

    def texts(self, rows: Iterable[Spoken]) -> Iterator[str]:
        for number, seen in enumerate(rows):
            self.ids.append(seen.id)
            self.hashes.append(hash(" ".join(seen.text.split())))
            for source in seen.sources:
                self.sources.setdefault(source, []).append(number)
            yield seen.text


def _pairs(overlap: Overlap, left: _Side, right: _Side, gate: LeakGate) -> Iterator[tuple[LeakKind, Pairs]]:
    """The pairs of each kind, the strongest kind first; the most alike pair of a row first."""
    same_words = overlap.normalised()
    equal_P = np.array(left.hashes, dtype=np.int64)[same_words.left_P] == np.array(right.hashes)[same_words.right_P]
    yield "exact", same_words.where(equal_P)
    yield "normalised", same_words.where(~equal_P)
    yield "13-gram", overlap.grams().closest_first()
    yield "near", overlap.near(gate.near).closest_first()
    shared = [name for name in left.sources if name in right.sources]
    joined = [(mine, right.sources[name][0]) for name in shared for mine in left.sources[name]]
    yield "group", Pairs.of(joined)
    yield "group", Pairs.of([(left.sources[name][0], theirs) for name in shared for theirs in right.sources[name]])
