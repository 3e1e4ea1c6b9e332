"""Mixtures: how many training rows of each source stay, so that the shares are those that the recipe names."""

from __future__ import annotations

from collections.abc import Mapping

from llmops.core.errors import RequestError
from llmops.core.sources import Data


def wanted_shares(data: Data) -> dict[str, float]:
    """{source: its share of the training rows}, replay included; empty where the recipe names no weight."""
    weights = {source.from_: source.weight for source in data.sources if source.weight is not None}
    names = [source.from_ for source in (*data.sources, *([data.replay.source] if data.replay else []))]
    if (weights or data.replay) and len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RequestError(f"source {twice!r} stands twice in a mixture", "name it once, so that its share is clear")
    if weights and len(weights) < len(data.sources):
        without = next(source.from_ for source in data.sources if source.weight is None)
        raise RequestError(f"source {without!r} has no weight, and others have", "give every source a weight, or none")
    rest = 1.0 - (data.replay.share if data.replay else 0.0)
    shares = {name: rest * weight / sum(weights.values()) for name, weight in weights.items()}
    return shares | ({data.replay.source.from_: data.replay.share} if data.replay else {})


def most_rows(counts: Mapping[str, int], data: Data) -> dict[str, int]:
    """{source: rows that stay}, as many as there can be at the shares wanted: no row is taken twice.

    The scarcest source decides. Without weights the sources keep all their rows, and replay fits itself to them.
    """
    shares = wanted_shares(data)
    if not shares:
        return dict(counts)
    if data.replay is not None and len(shares) == 1:
        name, share = next(iter(shares.items()))
        others = sum(count for source, count in counts.items() if source != name)
        return {**counts, name: min(counts.get(name, 0), round(others * share / (1 - share)))}
    total = min(counts.get(name, 0) / share for name, share in shares.items())
    return {name: min(counts.get(name, 0), round(total * share)) for name, share in shares.items()}
