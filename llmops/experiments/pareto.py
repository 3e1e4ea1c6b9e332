"""The Pareto plot of a tournament: how good against what it costs, and the page that shows it.

The page is one file: no script, nothing fetched, every text escaped. Up is always better and left always cheaper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jinja2
from markupsafe import Markup, escape

from llmops.core.choice import Choice, Entry
from llmops.core.report import LOWER_IS_BETTER, Score

WIDTH, HEIGHT = 470, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 12, 44
INSET = 14  # pixels between the ends of an axis and the first and last decade


class Axis(NamedTuple):
    """Something that a row costs."""

    title: str
    unit: str
    of: Callable[[Entry], float]
    least: float  # what is below is drawn here: a logarithm has no zero


AXES: tuple[Axis, ...] = (
    Axis("a thousand answers", "s", lambda entry: entry.cost.thousand_s, 0.01),
    Axis("one answer by itself", "ms", lambda entry: 1000 * entry.cost.latency_s, 0.1),
    Axis("training", "s", lambda entry: entry.cost.training_s, 0.01),
    Axis("memory", "MB", lambda entry: entry.cost.memory_bytes / 1e6, 0.01),
)


def worth(score: Score) -> float:
    """A score as a number of which more is better."""
    return -score.value if score.metric in LOWER_IS_BETTER else score.value


def frontier(entries: Sequence[Entry], answers: int) -> list[str]:
    """The names of the rows that no other one beats: none is as good on the trial rows and costs less in all."""
    found: list[Entry] = []
    for entry in sorted(entries, key=lambda entry: (entry.cost.total_s(answers), -worth(entry.trial))):
        if not found or worth(entry.trial) > worth(found[-1].trial):
            found.append(entry)
    return [entry.entrant.name for entry in found]


def page(choice: Choice) -> str:
    """The tournament as one self-contained page."""
    metric = choice.entries[0].trial.metric.replace("_", " ")
    plots = [(f"{metric.capitalize()} against {axis.title}", plot(choice, axis)) for axis in AXES]
    rows = sorted(choice.entries, key=lambda entry: -worth(entry.trial))
    return _template().render(choice=choice, rows=rows, plots=plots, numbers=_numbers(choice))


@cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    made = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {"seconds": seconds, "megabytes": lambda size: f"{size / 1e6:,.1f}"}
    return made.get_template("choice.html.j2")


def seconds(number: float) -> str:
    """Three digits that matter: 0.0123, 1.23, 123."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _numbers(choice: Choice) -> dict[str, int]:
    """The number by which a row goes in the plots: 1 is the best on the trial rows."""
    ordered = sorted(choice.entries, key=lambda entry: -worth(entry.trial))
    return {entry.entrant.name: place for place, entry in enumerate(ordered, 1)}


def plot(choice: Choice, axis: Axis) -> Markup:
    """One panel: the trial score with its interval against one cost, on a logarithmic axis; the frontier as a line."""
    entries, numbers = choice.entries, _numbers(choice)
    low, high = min(one.trial.low for one in entries), max(one.trial.high for one in entries)
    spread = (high - low) or 1.0
    low, high = low - 0.04 * spread, high + 0.04 * spread
    turned = entries[0].trial.metric in LOWER_IS_BETTER
    costs = [max(axis.least, axis.of(one)) for one in entries]
    first, last = math.floor(math.log10(min(costs))), math.ceil(math.log10(max(costs)))
    last = max(last, first + 1)

    def x(cost: float) -> float:
        share = (math.log10(max(axis.least, cost)) - first) / (last - first)
        return LEFT + INSET + share * (WIDTH - LEFT - RIGHT - 2 * INSET)

    def y(score: float) -> float:
        share = (score - low) / (high - low)
        return TOP + (share if turned else 1 - share) * (HEIGHT - TOP - BOTTOM)

    parts = [*_grid(axis, choice, (first, last), (low, high), x, y)]
    ahead = _frontier(entries, axis)
    corners = " ".join(f"{x(axis.of(one)):.1f},{y(one.trial.value):.1f}" for one in ahead)
    parts.append(f'<polyline class="front" points="{corners}"/>')
    for entry in entries:
        name = entry.entrant.name
        at = x(axis.of(entry)), y(entry.trial.value)
        kind = "pick" if name == choice.verdict.pick else "row"
        ends = f'y1="{y(entry.trial.low):.1f}" y2="{y(entry.trial.high):.1f}"'
        parts.append(
            f'<line class="bar" x1="{at[0]:.1f}" x2="{at[0]:.1f}" {ends}/>'
            f'<circle class="{kind}" cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="9"><title>{escape(name)}</title></circle>'
            f'<text class="number" x="{at[0]:.1f}" y="{at[1] + 3.5:.1f}">{numbers[name]}</text>'
        )
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(axis.title)}">'
    return Markup(head + "".join(parts) + "</svg>")


def _frontier(entries: Sequence[Entry], axis: Axis) -> list[Entry]:
    found: list[Entry] = []
    for entry in sorted(entries, key=lambda one: (axis.of(one), -worth(one.trial))):
        if not found or worth(entry.trial) > worth(found[-1].trial):
            found.append(entry)
    return found


def _grid(
    axis: Axis,
    choice: Choice,
    decades: tuple[int, int],
    scores: tuple[float, float],
    x: Callable[[float], float],
    y: Callable[[float], float],
) -> list[str]:
    base = HEIGHT - BOTTOM
    parts = []
    for decade in range(decades[0], decades[1] + 1):
        at = x(10.0**decade)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{base}"/>')
        parts.append(f'<text class="tick" x="{at:.1f}" y="{base + 15}">{10.0**decade:,g}</text>')
    for step in range(5):
        score = scores[0] + (step + 0.5) / 5 * (scores[1] - scores[0])
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(score):.1f}" y2="{y(score):.1f}"/>')
        parts.append(f'<text class="tick left" x="{LEFT - 6}" y="{y(score) + 3:.1f}">{score:.2f}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 8}">{escape(axis.title)}, {escape(axis.unit)}</text>')
    return parts
