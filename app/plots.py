"""Plotly figures, drawn from values. Text from data is escaped: plotly reads a few HTML tags in labels."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from llmops.core.forgetting import Forgetting
from llmops.core.report import LOWER_IS_BETTER, Score
from llmops.core.run import StepRecord

from .markup import row_name
from .theme import ACCENT, BAD, GOOD, QUIET, SANS

METRIC_NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "bits_per_byte": "bits per byte (lower is better)",
    "exact_match": "exact match",
    "absolute_error": "absolute error (lower is better)",
    "pick_reply": "real reply picked",
    "preference": "chosen reply found likelier",
    "reward_accuracy": "implicit reward agrees with people",
}


def metric_name(metric: str) -> str:
    """What people call a measure."""
    return METRIC_NAMES.get(metric, metric)


def _figure(height: int, x_title: str, y_title: str = "") -> Any:
    import plotly.graph_objects as go

    grid = "rgba(135,149,161,0.25)"
    figure = go.Figure()
    figure.update_layout(
        height=height,
        margin={"l": 10, "r": 16, "t": 12, "b": 44},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": ", ".join(SANS), "size": 13, "color": "#66788a"},
        showlegend=False,
        hoverlabel={"align": "left"},
        dragmode=False,
    )
    small = {"size": 13}
    figure.update_xaxes(
        title={"text": html.escape(x_title), "font": small},
        gridcolor=grid,
        zeroline=False,
        automargin=True,
        fixedrange=True,
    )
    figure.update_yaxes(
        title={"text": html.escape(y_title), "font": small},
        gridcolor=grid,
        zeroline=False,
        automargin=True,
        fixedrange=True,
    )
    return figure


def intervals(scores: Mapping[str, Score], picked: str | None = None, names: Mapping[str, str] | None = None) -> Any:
    """A dot and its 95 % interval for every entry, top to bottom as given; the picked one in green, named so."""
    figure = _figure(80 + 36 * max(1, len(scores)), metric_name(next(iter(scores.values())).metric) if scores else "")
    for key, score in scores.items():
        colour = GOOD if key == picked else (ACCENT if key.startswith(("tuned", "overall")) else QUIET)
        label = (names or {}).get(key) or row_name(key)
        shown = html.escape(label) + ("  ◂ pick" if key == picked else "")
        figure.add_scatter(
            x=[score.value],
            y=[shown],
            mode="markers",
            marker={"size": 11, "color": colour, "symbol": "diamond" if key == picked else "circle"},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [score.high - score.value],
                "arrayminus": [score.value - score.low],
                "color": colour,
                "thickness": 2.2,
                "width": 5,
            },
            hovertemplate=f"{html.escape(label)}<br>{score.value:.3f} [{score.low:.3f}, {score.high:.3f}], "
            f"n {score.n}<extra></extra>",
        )
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False)
    return figure


def abilities(ledger: Forgetting) -> Any:
    """Each ability's change in units of its margin: below -1 with the whole interval it is lost."""
    figure = _figure(100 + 36 * len(ledger.abilities), "change against the base, in margins (lost: wholly below -1)")
    for one in ledger.abilities:
        colour = {"kept": GOOD, "lost": BAD}.get(one.fate, QUIET)
        value, low, high = (number / one.margin for number in (one.change.value, one.change.low, one.change.high))
        figure.add_scatter(
            x=[value],
            y=[html.escape(one.name)],
            mode="markers",
            marker={"size": 11, "color": colour},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [high - value],
                "arrayminus": [value - low],
                "color": colour,
                "thickness": 2.2,
                "width": 5,
            },
            hovertemplate=f"{html.escape(one.name)}: {one.fate}<br>{one.change.value:+.3f} "
            f"[{one.change.low:+.3f}, {one.change.high:+.3f}], n {one.n}<extra></extra>",
        )
    for place in (-1.0, 0.0):
        figure.add_vline(x=place, line={"color": QUIET, "width": 1, "dash": "dot"})
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False)
    return figure


def loss_curve(steps: Sequence[StepRecord]) -> Any:
    """Loss against step: every step as a faint line, a running mean over a tenth of them on top, held-out as dots."""
    figure = _figure(300, "step", "loss, nats a token")
    x = [record.step for record in steps]
    raw = [record.loss_nats for record in steps]
    figure.add_scatter(x=x, y=raw, mode="lines", line={"color": QUIET, "width": 1}, opacity=0.5, name="each step")
    figure.add_scatter(
        x=x, y=_running_mean(raw), mode="lines", line={"color": ACCENT, "width": 2.4}, name="running mean"
    )
    seen = [record for record in steps if record.heldout_loss_nats is not None]
    if seen:
        y = [record.heldout_loss_nats for record in seen]
        dots = {"mode": "lines+markers", "line": {"color": GOOD, "width": 1, "dash": "dot"}}
        figure.add_scatter(x=[record.step for record in seen], y=y, name="held out", **dots)
        figure.update_layout(showlegend=True, legend={"orientation": "h", "y": 1.12})
    return figure


def _running_mean(values: Sequence[float]) -> list[float]:
    """An exponential mean whose memory is a tenth of the series."""
    keep = 1 - 1 / max(2.0, len(values) / 10)
    means: list[float] = []
    for value in values:
        means.append(value if not means else keep * means[-1] + (1 - keep) * value)
    return means


def better_is(metric: str) -> str:
    """`higher` or `lower`."""
    return "lower" if metric in LOWER_IS_BETTER else "higher"
