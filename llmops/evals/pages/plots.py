"""The plots of the pages: scores and differences with their intervals, reliability, marks, and length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from llmops.core.calibration import ReliabilityBin
from llmops.core.comparison import Difference
from llmops.core.drawing import LABELS, WIDTH, box, line, picture, text
from llmops.core.measures import spelt
from llmops.core.report import Score

LEFT, SPACE = LABELS + 20, WIDTH - LABELS - 90
ROW = 24
BINS = 20
LETTER = 6.2  # pixels, at most, of a typical one


def dot(x: float, y: float, kind: str) -> Markup:
    """A point."""
    return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4" class="{}"/>').format(x, y, kind)


def scores(rows: Mapping[str, Score], whole: Score, title: str) -> Markup:
    """Each score with its interval, and the whole as a dashed line; one that leaves the whole out stands out."""
    ends = [bound for score in (*rows.values(), whole) for bound in (score.low, score.high)]
    low, high = min(ends), max(ends)
    reach = (high - low) or 1.0

    def x(value: float) -> float:
        return LEFT + (value - low) / reach * SPACE

    parts = [line(x(whole.value), 0, x(whole.value), ROW * len(rows) + 4, "zero")]
    for place, (name, score) in enumerate(rows.items()):
        y = 14 + place * ROW
        kind = "sure" if score.high < whole.value or score.low > whole.value else "held"
        parts.append(text(LEFT - 10, y + 4, name, "name", end=True))
        parts.append(line(x(score.low), y, x(score.high), y, f"{kind}-line"))
        parts.append(dot(x(score.value), y, kind))
        parts.append(text(WIDTH - 4, y + 4, spelt(score.metric, score.value), "value", end=True))
    foot = ROW * len(rows) + 20
    parts += [
        text(LEFT, foot, spelt(whole.metric, low), "value"),
        text(LEFT + SPACE, foot, spelt(whole.metric, high), "value", end=True),
    ]
    return picture(foot + 6, title, parts)


def differences(rows: Mapping[str, Difference], metric: str, title: str) -> Markup:
    """Each difference with its interval around a line at nothing; one with a verdict stands out."""
    reach = max((max(abs(one.low), abs(one.high)) for one in rows.values()), default=0.0) or 1.0
    middle = LEFT + SPACE / 2

    def x(value: float) -> float:
        return middle + value / reach * SPACE / 2

    parts = [line(middle, 0, middle, ROW * len(rows) + 4, "zero")]
    for place, (name, one) in enumerate(rows.items()):
        y = 14 + place * ROW
        kind = {"better": "gain", "worse": "sure"}.get(one.verdict, "held")
        parts.append(text(LEFT - 10, y + 4, name, "name", end=True))
        parts.append(line(x(one.low), y, x(one.high), y, f"{kind}-line"))
        parts.append(dot(x(one.delta), y, kind))
        parts.append(
            text(WIDTH - 4, y + 4, f"{'+' if one.delta >= 0 else ''}{spelt(metric, one.delta)}", "value", end=True)
        )
    return picture(ROW * len(rows) + 8, title, parts)


class Spread(NamedTuple):
    """A line of a plot: a number with its interval, the class of its colour, and how the number is spelt."""

    name: str
    value: float
    low: float
    high: float
    kind: str
    said: str


def spreads(rows: Sequence[Spread], marks: Sequence[tuple[float, str]], title: str) -> Markup:
    """Each number with its interval, and dashed lines, named at the foot, that say what it is to be held against."""
    ends = [*(place for place, _ in marks), *(bound for row in rows for bound in (row.low, row.high))]
    low, reach = min(ends), (max(ends) - min(ends)) or 1.0

    def x(value: float) -> float:
        return LEFT + (value - low) / reach * SPACE

    foot = ROW * len(rows) + 20
    parts = [line(x(place), 0, x(place), foot - 16, "zero") for place, _ in marks]
    parts += _feet([(x(place), name) for place, name in marks], foot)
    for place, row in enumerate(rows):
        y = 14 + place * ROW
        parts.append(text(LEFT - 10, y + 4, row.name, "name", end=True))
        parts.append(line(x(row.low), y, x(row.high), y, f"{row.kind}-line"))
        parts.append(dot(x(row.value), y, row.kind))
        parts.append(text(WIDTH - 4, y + 4, row.said, "value", end=True))
    return picture(foot + 22, title, parts)


def _feet(names: Sequence[tuple[float, str]], foot: float) -> list[Markup]:
    """The names of marks below them; one that would run into the name before stands a line lower."""
    parts, taken = [], -WIDTH * 1.0
    for x, name in names:
        wide = LETTER * len(name)
        begins = min(max(x - wide / 2, 0), WIDTH - wide)
        lower = begins < taken
        parts.append(text(begins, foot + (13 if lower else 0), name, "value"))
        taken = taken if lower else begins + wide
    return parts


def reliability(bins: Sequence[ReliabilityBin], title: str) -> Markup:
    """How often answers of about one probability were right; on the dashed line a model is as right as it says.

    Both axes begin at the tenth below everything that is drawn: of two labels, no answer is less sure than a half.
    """
    left, tall, space = 40, 190, 300
    least = min((min(one.said, one.low) for one in bins), default=0.0)
    floor = min(0.8, int(10 * least) / 10)

    def x(share: float) -> float:
        return left + space * (share - floor) / (1 - floor)

    def y(share: float) -> float:
        return tall + 6 - tall * (share - floor) / (1 - floor)

    parts = [
        line(x(floor), y(floor), x(1), y(1), "zero"),
        line(left, tall + 6, left + space, tall + 6),
        line(left, 6, left, tall + 6),
    ]
    for one in bins:
        parts.append(line(x(one.said), y(one.low), x(one.said), y(one.high), "train-line"))
        parts.append(dot(x(one.said), y(one.right), "train"))
    for share in (floor, (1 + floor) / 2, 1.0):
        parts.append(text(x(share), tall + 22, f"{share:.0%}", "value", middle=True))
        parts.append(text(left - 6, y(share) + 4, f"{share:.0%}", "value", end=True))
    parts.append(text(left + space + 14, tall + 10, "it was this sure", "value"))
    parts.append(text(left + 6, 14, "so often it was right", "value"))
    return picture(tall + 32, title, parts)


def histogram(marks: Sequence[float], metric: str, title: str) -> Markup:
    """Answers by their mark."""
    low, high = min(marks), max(marks)
    counts, edges = np.histogram(marks, bins=BINS, range=(low, high if high > low else low + 1))
    left, tall, space = 40, 130, WIDTH - 60
    step, most = space / BINS, int(counts.max()) or 1
    parts = [line(left, tall + 6, left + space, tall + 6)]
    for place, count in enumerate(counts):
        high_px = tall * count / most
        parts.append(box(left + place * step + 1, tall + 6 - high_px, step - 2, high_px, "train"))
    for place in (0, BINS // 2, BINS):
        parts.append(text(left + place * step, tall + 22, spelt(metric, float(edges[place])), "value", middle=True))
    parts.append(text(left - 6, 16, f"{most:,}", "value", end=True))
    return picture(tall + 30, title, parts)
