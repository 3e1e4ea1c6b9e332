"""A tournament and a forecast as a person reads them in a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from llmops.cli import words
from llmops.cli.tables import table, text
from llmops.core.choice import Choice, Entry, Forecast
from llmops.core.report import LOWER_IS_BETTER

OUTLOOK_STYLE = {"helps": "green", "hurts": "red", "cannot tell": "yellow"}


def choice(value: Choice) -> RenderableType:
    """Every row, the best first, with what it costs; the pick with its reason; what the held-out rows said."""
    metric = value.entries[0].trial.metric
    made = table(
        *("row", "trial", "95 % interval", "behind", "held out", "train", "1,000 answers", "one", "memory", "in all"),
        numbers_from=1,
        title=f"{words.clean(value.recipe.name)}: {metric.replace('_', ' ')} on trial rows, and what it costs here",
    )
    sign = 1 if metric in LOWER_IS_BETTER else -1
    for entry in sorted(value.entries, key=lambda entry: sign * entry.trial.value):
        made.add_row(*_row(entry, value), style="bold" if entry.entrant.name == value.verdict.pick else "")
    absent = [text(f"without {', '.join(names)}: {why}", "dim") for why, names in value.missing.items()]
    asked = words.count(value.contest.answers)
    legend = (
        "behind: at most so far behind the best row (all compared at once, 95 %); = not told apart from it. * no other "
        f"row beats it. One: an answer by itself. In all: to make it and to ask it {asked} times."
    )
    return Group(
        "",
        made,
        text(legend, "dim"),
        *absent,
        "",
        Text.assemble(("picked: ", "bold"), words.clean(f"{value.verdict.pick}. {value.verdict.because}")),
        *([text(value.tried_on)] if value.tried_on else []),
        text(value.judged + (f" Fitted on all training rows: {value.final.value:.3f}." if value.final else "")),
        text(f"{value.id} in {words.seconds(value.seconds)}; next: {value.then}", "dim"),
    )


def _row(entry: Entry, value: Choice) -> tuple[RenderableType, ...]:
    cost, gap = entry.cost, entry.behind
    steps = f" ({entry.steps} steps)" if entry.steps else ""
    behind = "" if gap is None else f"{gap.at_most:.3f}{' =' if gap.tied else '  '}"
    return (
        text(f"{entry.entrant.name}{steps}{' *' if entry.pareto else ''}"),
        f"{entry.trial.value:.3f}",
        f"{entry.trial.low:.3f} to {entry.trial.high:.3f}",
        behind,
        "–" if entry.heldout is None else f"{entry.heldout.value:.3f}",
        words.seconds(cost.training_s),
        words.seconds(cost.thousand_s),
        f"{1000 * cost.latency_s:,.1f} ms",
        words.size(cost.memory_bytes),
        words.seconds(cost.total_s(value.contest.answers)),
    )


def forecast(value: Forecast) -> RenderableType:
    """What more rows would add to each kind of row, and its learning curve."""
    title = f"{words.clean(value.recipe.name)}: what the next {words.count(value.more)} training rows would add"
    made = table(
        "row", f"{value.metric.replace('_', ' ')} now", "gain", "90 % band", "more data", numbers_from=1, title=title
    )
    for one in value.outlooks:
        made.add_row(
            text(one.row),
            f"{one.points[-1].score:.3f}",
            f"{one.gain:+.3f}",
            f"{one.low:+.3f} to {one.high:+.3f}",
            text(one.verdict, OUTLOOK_STYLE[one.verdict]),
        )
    sizes = [point.rows for point in value.outlooks[0].points]
    curve = table(
        "row", *(words.count(rows) for rows in sizes), "law", numbers_from=1, title="learning curves, by rows"
    )
    for one in value.outlooks:
        rows = f"(n + {one.shift:,.0f})" if one.shift else "n"
        law = f"{one.ceiling:.3f} {'-' if one.scale >= 0 else '+'} {abs(one.scale):.2f} {rows}^-{one.power:.2f}"
        curve.add_row(text(one.row), *(f"{point.score:.3f}" for point in one.points), text(law))
    return Group(
        "", made, "", curve, "", text(value.because), text(f"gain: above 0 is better · {value.dataset}", "dim")
    )
