"""Drawing as inline SVG: no library, no script, colours from the page's classes, every text escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markupsafe import Markup, escape

WIDTH = 520
LABELS = 150  # pixels for names on the left
COMMANDS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def flat(text: str) -> str:
    """A text on one line, without the characters that command a viewer, such as one that turns the direction round."""
    return " ".join(COMMANDS.sub(" ", text).encode("utf-8", "replace").decode("utf-8").split())


def picture(tall: float, title: str, parts: Sequence[Markup]) -> Markup:
    """An SVG of `WIDTH` by `tall`, named by `title`."""
    head = Markup('<svg viewBox="0 0 {} {:.0f}" role="img" aria-label="{}">').format(WIDTH, tall, title)
    return head + Markup("").join(parts) + Markup("</svg>")


def text(x: float, y: float, said: str, kind: str, end: bool = False, middle: bool = False) -> Markup:
    """A text on one line, cut to 24 characters, whose class is `kind`; it begins at `x` unless it ends there."""
    anchor = "end" if end else "middle" if middle else "start"
    said = flat(said)
    shown = said if len(said) <= 24 else said[:23] + "…"
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>').format(
        x, y, anchor, kind, escape(shown)
    )


def box(x: float, y: float, long: float, tall: float, kind: str) -> Markup:
    """A rectangle with round corners."""
    shape = '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="2" class="{}"/>'
    return Markup(shape).format(x, y, max(0.0, long), max(0.0, tall), kind)


def line(x: float, y: float, to_x: float, to_y: float, kind: str = "axis") -> Markup:
    """A straight line."""
    shape = '<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>'
    return Markup(shape).format(x, y, to_x, to_y, kind)
