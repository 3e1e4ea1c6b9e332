"""The mix of some rows: which share of them is of which kind. A kind is a source and, of labelled rows, a label."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from llmops.core.dataset import Row
from llmops.core.value import digest

Kind = tuple[str, str]  # source, label; the label is "" where rows are rated: nearly each would be one of its own
Shares = dict[Kind, float]

# Cleaning and chance move two parts of one source apart by less (BBC topics, 849 and 404 rows: 0.07).
DIFFER = 0.1
# A kind that makes up less of the held-out rows does not bound how many rows have their mix.
RARE = 0.05


def kind_of(row: Row, rated: bool) -> Kind:
    """The kind of a row."""
    return row.source, "" if rated else str(row.label)


def shares(rows: Sequence[Row], rated: bool) -> Shares:
    """{kind: its share}, adding up to 1; of rows with a label only, as rows to replay have none."""
    counts = Counter(kind_of(row, rated) for row in rows if row.label is not None)
    return {kind: count / counts.total() for kind, count in sorted(counts.items())}


def apart(one: Mapping[Kind, float], other: Mapping[Kind, float]) -> float:
    """The share of the rows that would have to be of another kind (total variation distance, 0 to 1)."""
    return sum(abs(one.get(kind, 0.0) - other.get(kind, 0.0)) for kind in {*one, *other}) / 2


def differ(rows: Mapping[Kind, float], heldout: Mapping[Kind, float], n: int) -> bool:
    """Whether `n` held-out rows are of another mix by more than cleaning and chance."""
    return apart(rows, heldout) > DIFFER + 1 / math.sqrt(n)


def in_shares(rows: Sequence[Row], wanted: Mapping[Kind, float], rated: bool) -> list[Row]:
    """As many of `rows` as have the mix `wanted`, by the hash of their ids; kinds that are not wanted are left out."""
    there: dict[Kind, list[Row]] = {}
    for row in sorted(rows, key=lambda row: digest(["mix", row.id])):
        there.setdefault(kind_of(row, rated), []).append(row)
    bounds = [len(some) / wanted[kind] for kind, some in there.items() if wanted.get(kind, 0.0) >= RARE]
    if not bounds:
        return []
    names = {row.id for kind, some in there.items() for row in some[: round(min(bounds) * wanted.get(kind, 0.0))]}
    return [row for row in rows if row.id in names]


def surplus(one: Mapping[Kind, float], other: Mapping[Kind, float]) -> tuple[str, float, float]:
    """(what `one` has more of than `other`: a source, or a label of it; its share in each)."""
    by_source = {source: of_source(one, source) - of_source(other, source) for source, _ in one}
    source = max(by_source, key=lambda name: by_source[name])
    if by_source[source] > DIFFER:
        return source, of_source(one, source), of_source(other, source)
    kind = max(one, key=lambda kind: one[kind] - other.get(kind, 0.0))
    return f"{kind[1]} of {kind[0]}", one[kind], other.get(kind, 0.0)


def of_source(mix: Mapping[Kind, float], source: str) -> float:
    """The share of a source's rows of any label."""
    return sum(share for (name, _), share in mix.items() if name == source)
