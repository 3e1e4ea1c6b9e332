"""Plots of the card as inline SVG: no library, no script, colours from the page, every text escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from llmops.core.drawing import LABELS, WIDTH, box, line, picture, text
from llmops.core.findings import Estimate

BAR, GAP = 12, 5
BINS = 24


class Bar(NamedTuple):
    """A named number of rows, and a remark behind it."""

    name: str
    rows: int
    remark: str = ""


def bars(rows: Sequence[Bar], title: str) -> Markup:
    """Horizontal bars from nothing to the largest."""
    most = max((row.rows for row in rows), default=0) or 1
    space = WIDTH - LABELS - 110
    parts = []
    for place, row in enumerate(rows):
        y = 4 + place * 26
        long = max(1.5, space * row.rows / most) if row.rows else 0
        parts.append(text(LABELS - 8, y + 13, row.name, "name", end=True))
        parts.append(box(LABELS, y + 2, long, 15, "train"))
        parts.append(text(LABELS + long + 7, y + 13, f"{row.rows:,}{row.remark}", "value"))
    return picture(26 * len(rows) + 6, title, parts)


def twin_bars(shares: Mapping[str, tuple[float, float]], title: str) -> Markup:
    """For each name its share in train and in held out, one bar above the other."""
    most = max((max(pair) for pair in shares.values()), default=0.0) or 1.0
    space = WIDTH - LABELS - 70
    parts = []
    for place, (name, pair) in enumerate(shares.items()):
        y = 4 + place * (2 * BAR + 14)
        parts.append(text(LABELS - 8, y + BAR + 5, name, "name", end=True))
        for row, (share, side) in enumerate(zip(pair, ("train", "held"), strict=True)):
            top, long = y + row * (BAR + 2), space * share / most
            parts.append(box(LABELS, top, long, BAR, side))
            parts.append(text(LABELS + long + 7, top + BAR - 2, f"{share:.1%}", "value"))
    return picture(len(shares) * (2 * BAR + 14) + 6, title, parts)


def histogram(train: Sequence[int], heldout: Sequence[int], title: str) -> Markup:
    """Shares of rows by number of words, both sides over each other; the longest 1 % stand in the last bin."""
    last = max(2, int(np.quantile([*train, *heldout], 0.99))) if train or heldout else 2
    edges = np.unique(np.linspace(0, last, min(BINS, last) + 1).round().astype(int))
    tall, left, space = 150, 34, WIDTH - 44
    counted = [np.histogram(np.minimum(side, last), edges)[0] / max(1, len(side)) for side in (train, heldout)]
    most = max(float(counted[0].max()), float(counted[1].max())) or 1.0
    step = space / (len(edges) - 1)
    parts = [line(left, tall + 8, left + space, tall + 8)]
    for place, (mine, theirs) in enumerate(zip(*counted, strict=True)):
        x = left + place * step
        parts.append(box(x + 1, tall + 8 - tall * mine / most, step - 2, tall * mine / most, "train"))
        y = tall + 8 - tall * theirs / most
        parts.append(line(x + 1, y, x + step - 1, y, "held-line"))
    for share in (0, 0.25, 0.5, 0.75, 1):
        place = round(share * (len(edges) - 1))
        plus = "+" if share == 1 else ""
        parts.append(text(left + place * step, tall + 24, f"{edges[place]}{plus}", "value", middle=True))
    parts.append(text(left - 6, 16, f"{most:.0%}", "value", end=True))
    return picture(tall + 32, title, parts)


def forest(rows: Sequence[tuple[str, Estimate]], title: str) -> Markup:
    """Differences with their intervals around a line at nothing; one whose interval leaves out nothing stands out."""
    reach = max((max(abs(one.low), abs(one.high)) for _, one in rows), default=0.0) or 0.01
    left, space = LABELS + 30, WIDTH - LABELS - 110
    middle = left + space / 2

    def x(value: float) -> float:
        return middle + value / reach * space / 2

    parts = [line(middle, 0, middle, 24 * len(rows) + 4, "zero")]
    for place, (name, one) in enumerate(rows):
        y = 14 + place * 24
        kind = "sure" if one.low > 0 or one.high < 0 else "held"
        parts.append(text(left - 10, y + 4, name, "name", end=True))
        parts.append(line(x(one.low), y, x(one.high), y, f"{kind}-line"))
        parts.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4" class="{}"/>').format(x(one.value), y, kind))
        parts.append(text(WIDTH - 4, y + 4, f"{100 * one.value:+.1f}", "value", end=True))
    return picture(24 * len(rows) + 8, title, parts)
