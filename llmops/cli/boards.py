"""Pictures of what was weighed: power, boards, line-ups, slices, calibration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from llmops.cli import words
from llmops.cli.scores import VERDICT_STYLE, difference_row, interval, measure
from llmops.cli.tables import pairs, table, text
from llmops.core.calibration import Abstention, Apart, Calibration, ReliabilityBin
from llmops.core.experiments import Board, BoardLine, Curve, LineUp, Sweep
from llmops.core.findings import Estimate
from llmops.core.power import Power
from llmops.core.report import LOWER_IS_BETTER, Subject
from llmops.core.slices import Slices

SHOWN_FLIPS, SHOWN_SLICES = 8, 12
BARS = "▁▂▃▄▅▆▇█"
VERDICT_OPEN = "its rows do not show that it is too sure, or not sure enough"
SLICE_STYLE = {"weak": "red", "strong": "green", "cannot tell": "dim"}


def power(value: Power) -> RenderableType:
    """The sentence."""
    return text(value.sentence)


def sweep(value: Sweep) -> RenderableType:
    """What is varied, and how."""
    tried = {knob.field: ", ".join(knob.values) for knob in value.knobs}
    each = {"recipes": len(value.members), "at a time": f"{value.jobs}: {value.because}"}
    return pairs({"sweep": value.id, "recipe": value.recipe.name, **tried, **each})


def board(value: Board) -> RenderableType:
    """The best first, each with its interval and what is known of it against the best."""
    metric = value.metric or ""
    low = ", lower is better" if metric in LOWER_IS_BETTER else ""
    title = f"{measure(metric)}{low}" if metric else "nothing is measured yet"
    made = table("", metric, "95 % interval", "n", "minus the best", "p (Holm)", "", "trained in", title=title)
    for line in value.lines:
        made.add_row(*_board_row(line))
    end = " · ".join(part for part in (value.sweep, f"suite {value.suite}" if value.suite else None) if part)
    return Group(made, text(end, "dim"))


def _board_row(line: BoardLine) -> tuple[RenderableType, ...]:
    spent = words.seconds(line.seconds) if line.seconds else ""
    if line.score is None:
        note = f"{line.status}: {line.note}" if line.note else line.status
        return text(line.name), text("–"), "", "", "", "", text(words.one_line(note, 40), "yellow"), spent
    found = line.against_best
    against = (
        ("", "", text("best", "bold"))
        if found is None
        else (
            f"{found.delta:+.3f} ({found.low:+.3f} to {found.high:+.3f})",
            words.p_value(found.p if found.adjusted_p is None else found.adjusted_p),
            text(found.verdict, VERDICT_STYLE[found.verdict]),
        )
    )
    return text(line.name), f"{line.score.value:.3f}", interval(line.score), words.count(line.score.n), *against, spent


def line_up(value: LineUp) -> RenderableType:
    """Scores and tests, then what makes them differ, then what they answered differently."""
    refs = [column.ref for column in value.columns]
    parts: list[RenderableType] = [_scores(value)]
    for compared in value.comparisons:
        title = f"{_who(compared.challenger)} against {_who(compared.baseline)}, by {measure(compared.metric)}"
        made = table("", "delta", "95 % interval", "p", "n", "verdict", numbers_from=1)
        made.add_row(*difference_row("overall", compared.overall))
        parts += ["", text(title, "bold"), made]
    for what, fields in (("recipe", value.recipe), ("plan", value.plan)):
        made = table(what, *refs, title=f"where the {what}s differ")
        for name, cells in fields.items():
            made.add_row(text(name, "dim"), *map(text, cells))
        parts += ["", made if fields else text(f"their {what}s are alike", "dim")]
    curves = [column.curve for column in value.columns if column.curve]
    if curves:
        parts += ["", text("loss by step", "bold"), *map(_curve, curves)]
    parts += ["", text(value.note, "yellow") if value.note else _flips(value)]
    return Group(*parts)


def _who(subject: Subject) -> str:
    """`tuned tone:2`; of a cheap row its kind alone, for its ref is a plan."""
    return f"{subject.kind} {subject.ref}" if subject.kind == "tuned" else subject.kind


def _scores(value: LineUp) -> RenderableType:
    made = table("", *(f"{column.ref} ({column.subject.kind})" for column in value.columns), numbers_from=1)
    for metric in dict.fromkeys(name for column in value.columns for name in column.scores):
        cells = [column.scores.get(metric) for column in value.columns]
        made.add_row(
            text(measure(metric)), *(text(f"{one.value:.3f}\n{interval(one)}" if one else "–") for one in cells)
        )
    return made


def _curve(value: Curve) -> Text:
    """A run's losses as bars, and where they began and ended."""
    low, high = min(value.loss_nats), max(value.loss_nats)
    places = [round((loss - low) / ((high - low) or 1.0) * (len(BARS) - 1)) for loss in value.loss_nats]
    held = f", held out {value.heldout[0][1]:.3f} to {value.heldout[-1][1]:.3f}" if value.heldout else ""
    return Text.assemble(
        ("".join(BARS[place] for place in places), "cyan"),
        f"  {value.loss_nats[0]:.3f} to {value.loss_nats[-1]:.3f} nats in {value.steps[-1]} steps{held}  ",
        (words.clean(value.run), "dim"),
    )


def _flips(value: LineUp) -> RenderableType:
    """The answers that flipped."""
    if not value.flips:
        return text("no answer flipped", "dim")
    shown = value.flips[:SHOWN_FLIPS]
    title = f"{words.plural(value.flipped, 'answer')} flipped; the first {len(shown)}"
    made = table("asked", "expected", *(column.ref for column in value.columns), title=title)
    for flip in shown:
        answers = [
            text(words.one_line(answered, 40) or f"{mark:.3f}", "green" if mark == 1 else "")
            for answered, mark in zip(flip.answered, flip.marks, strict=True)
        ]
        made.add_row(text(words.one_line(flip.prompt, 60)), text(words.one_line(flip.expected, 40)), *answers)
    return made


def slices(value: Slices) -> RenderableType:
    """The worst first."""
    if not value.slices:
        return text(f"{value.report} has no slice to look at: each needs 10 rows, and as many outside it")
    title = f"{measure(value.metric)} of {value.report} by slice, the worst first"
    made = table("slice", "by", "value", "95 % interval", "n", "minus the rest", "p (Holm)", "", title=title)
    for one in value.slices[:SHOWN_SLICES]:
        made.add_row(
            text(one.name),
            one.by,
            f"{one.score.value:.3f}",
            interval(one.score),
            words.count(one.score.n),
            f"{one.gap:+.3f}",
            words.p_value(one.adjusted_p),
            text(one.verdict, SLICE_STYLE[one.verdict]),
        )
    more = len(value.slices) - SHOWN_SLICES
    return Group(made, text(f"and {more} more (--json has all)", "dim")) if more > 0 else made


def calibration(value: Calibration) -> RenderableType:
    """What was said against what was right, before and after the temperature."""
    kept = "kept with a version" if value.temperature != 1 else "left as it is: tempering did not help on rows apart"
    lines = {
        "verdict": f"as it comes the model is {value.mood}" if value.mood else VERDICT_OPEN,
        "calibration error": f"{_estimate(value.error_before)}; tempered {_estimate(value.error_after)}",
        "by chance alone": f"{value.error_by_chance:.3f}: what a calibrated model shows on {value.n:,} rows",
        "log loss": f"{value.nats_before:.4f} nats a row; tempered {value.nats_after:.4f} "
        f"({value.nats_change.low:+.4f} to {value.nats_change.high:+.4f})",
        "temperature": f"{value.fitted:.3f} fits best; {kept}",
    }
    made = table("said", "right", "95 % interval", "n", "", numbers_from=0, title="as it comes")
    tempered = table("said", "right", "95 % interval", "n", "", numbers_from=0, title="tempered, by rows apart")
    for bins, to in ((value.before, made), (value.after, tempered)):
        for one in bins:
            to.add_row(*_reliability_row(one))
    end = f"{value.report} · {value.n:,} rows · tempered by temperatures fitted on other sources"
    return Group(pairs(lines), "", made, "", tempered, text(end, "dim"))


def _reliability_row(one: ReliabilityBin) -> tuple[RenderableType, ...]:
    off = "" if one.low <= one.said <= one.high else "too sure" if one.said > one.high else "not sure enough"
    bounds = f"{one.low:.3f} to {one.high:.3f}"
    return f"{one.said:.3f}", f"{one.right:.3f}", bounds, words.count(one.n), text(off, "yellow")


def _estimate(value: Estimate) -> str:
    return f"{value.value:.3f} ({value.low:.3f} to {value.high:.3f})"


def abstention(value: Abstention) -> RenderableType:
    """The threshold and what it costs."""
    wanted = f"{100 * value.error:g} %"
    if value.threshold is None:
        return text(f"no threshold promises at most {wanted} wrong answers, by {value.n:,} rows of {value.report}")
    return pairs(
        {
            "answer from": f"{value.threshold:.4f} of the model's own probability on",
            "answered": f"{100 * value.answered:.0f} % of {value.n:,} rows",
            "wrong": f"{value.wrong} of {value.n_answered:,}",
            "promise": f"at most {wanted} wrong, with 95 % confidence (the bound is {100 * (value.bound or 0):.2f} %)",
            **({} if value.apart is None else {"rows apart": _apart(value.apart)}),
            "report": value.report,
        }
    )


def _apart(found: Apart) -> str:
    """What thresholds came to on sources that did not choose them."""
    if found.wrong is None:
        return f"none of {found.answered.n:,} answered: with a few sources less no threshold keeps the promise"
    wrong = f"{found.wrong.value:.1%} wrong ({found.wrong.low:.1%} to {found.wrong.high:.1%})"
    answered = f"{found.answered.value:.0%} of {found.answered.n:,} answered"
    return f"{answered}, {wrong}, by thresholds that other sources chose"


PICTURES: dict[type, Callable[[Any], RenderableType]] = {
    Power: power,
    Sweep: sweep,
    Board: board,
    LineUp: line_up,
    Slices: slices,
    Calibration: calibration,
    Abstention: abstention,
}
