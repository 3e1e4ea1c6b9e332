"""Plots of the card as inline SVG: no library, no script, colours from the page, every text escaped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup, escape

from llmops.core.findings import Estimate

WIDTH = 520
BAR, GAP = 12, 5
LABELS = 150  # pixels for names on the left
BINS = 24
COMMANDS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


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
        parts.append(_text(LABELS - 8, y + 13, row.name, "name", end=True))
        parts.append(_box(LABELS, y + 2, long, 15, "train"))
        parts.append(_text(LABELS + long + 7, y + 13, f"{row.rows:,}{row.remark}", "value"))
    return _svg(26 * len(rows) + 6, title, parts)


def twin_bars(shares: Mapping[str, tuple[float, float]], title: str) -> Markup:
    """For each name its share in train and in held out, one bar above the other."""
    most = max((max(pair) for pair in shares.values()), default=0.0) or 1.0
    space = WIDTH - LABELS - 70
    parts = []
    for place, (name, pair) in enumerate(shares.items()):
        y = 4 + place * (2 * BAR + 14)
        parts.append(_text(LABELS - 8, y + BAR + 5, name, "name", end=True))
        for row, (share, side) in enumerate(zip(pair, ("train", "held"), strict=True)):
            top, long = y + row * (BAR + 2), space * share / most
            parts.append(_box(LABELS, top, long, BAR, side))
            parts.append(_text(LABELS + long + 7, top + BAR - 2, f"{share:.1%}", "value"))
    return _svg(len(shares) * (2 * BAR + 14) + 6, title, parts)


def histogram(train: Sequence[int], heldout: Sequence[int], title: str) -> Markup:
    """Shares of rows by number of words, both sides over each other; the longest 1 % stand in the last bin."""
    last = max(2, int(np.quantile([*train, *heldout], 0.99))) if train or heldout else 2
    edges = np.unique(np.linspace(0, last, min(BINS, last) + 1).round().astype(int))
    tall, left, space = 150, 34, WIDTH - 44
    counted = [np.histogram(np.minimum(side, last), edges)[0] / max(1, len(side)) for side in (train, heldout)]
    most = max(float(counted[0].max()), float(counted[1].max())) or 1.0
    step = space / (len(edges) - 1)
    parts = [_line(left, tall + 8, left + space, tall + 8)]
    for place, (mine, theirs) in enumerate(zip(*counted, strict=True)):
        x = left + place * step
        parts.append(_box(x + 1, tall + 8 - tall * mine / most, step - 2, tall * mine / most, "train"))
        y = tall + 8 - tall * theirs / most
        parts.append(_line(x + 1, y, x + step - 1, y, "held-line"))
    for share in (0, 0.25, 0.5, 0.75, 1):
        place = round(share * (len(edges) - 1))
        plus = "+" if share == 1 else ""
        parts.append(_text(left + place * step, tall + 24, f"{edges[place]}{plus}", "value", middle=True))
    parts.append(_text(left - 6, 16, f"{most:.0%}", "value", end=True))
    return _svg(tall + 32, title, parts)


def forest(rows: Sequence[tuple[str, Estimate]], title: str) -> Markup:
    """Differences with their intervals around a line at nothing; one whose interval leaves out nothing stands out."""
    reach = max((max(abs(one.low), abs(one.high)) for _, one in rows), default=0.0) or 0.01
    left, space = LABELS + 30, WIDTH - LABELS - 110
    middle = left + space / 2

    def x(value: float) -> float:
        return middle + value / reach * space / 2

    parts = [_line(middle, 0, middle, 24 * len(rows) + 4, "zero")]
    for place, (name, one) in enumerate(rows):
        y = 14 + place * 24
        kind = "sure" if one.low > 0 or one.high < 0 else "held"
        parts.append(_text(left - 10, y + 4, name, "name", end=True))
        parts.append(_line(x(one.low), y, x(one.high), y, f"{kind}-line"))
        parts.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4" class="{}"/>').format(x(one.value), y, kind))
        parts.append(_text(WIDTH - 4, y + 4, f"{100 * one.value:+.1f}", "value", end=True))
    return _svg(24 * len(rows) + 8, title, parts)


def flat(text: str) -> str:
    """A text on one line, without the characters that command a viewer, such as one that turns the direction round."""
    return " ".join(COMMANDS.sub(" ", text).encode("utf-8", "replace").decode("utf-8").split())


def _svg(tall: float, title: str, parts: Sequence[Markup]) -> Markup:
    head = Markup('<svg viewBox="0 0 {} {:.0f}" role="img" aria-label="{}">').format(WIDTH, tall, title)
    return head + Markup("").join(parts) + Markup("</svg>")


def _text(x: float, y: float, text: str, kind: str, end: bool = False, middle: bool = False) -> Markup:
    anchor = "end" if end else "middle" if middle else "start"
    text = flat(text)
    shown = text if len(text) <= 24 else text[:23] + "…"
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>').format(
        x, y, anchor, kind, escape(shown)
    )


def _box(x: float, y: float, long: float, tall: float, kind: str) -> Markup:
    shape = '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="2" class="{}"/>'
    return Markup(shape).format(x, y, max(0.0, long), max(0.0, tall), kind)


def _line(x: float, y: float, to_x: float, to_y: float, kind: str = "axis") -> Markup:
    shape = '<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>'
    return Markup(shape).format(x, y, to_x, to_y, kind)
