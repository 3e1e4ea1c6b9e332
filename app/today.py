"""Today: what answers as production, how it is doing, and what the last run came to, losses included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmops.core.errors import LlmopsError
from llmops.core.outcome import ComparisonLine, Outcome
from llmops.core.version import Promotion, champion
from llmops.store.workspace import Workspace

from . import plots, views
from .jobs import Job, Jobs
from .markup import Html, card, chip, duration, el, empty, failed, join, note, row_name, when
from .theme import html_box
from .views import Panel

DEMO = "tone"


def draw(at: Workspace, jobs: Jobs, show_runs: Callable[[], Any], tabs: Any) -> Panel:
    """The tab. `show_runs` gives the update of `tabs` that turns to the Runs tab."""
    import gradio as gr

    production = html_box()
    busy = html_box(visible=False)
    with gr.Column(visible=False) as start, gr.Row():
        demo = gr.Button("Run the demo", variant="primary", elem_id="run-demo")
        own = gr.Button("Start from my file", elem_id="start-own")
    with gr.Column(visible=False) as last, gr.Row():
        with gr.Column(scale=3, min_width=320):
            plot = gr.Plot(show_label=False, container=False)
        with gr.Column(scale=2, min_width=300):
            words = html_box()
    rest = html_box()

    def refresh() -> list[Any]:
        outcome = views.last_outcome(at)
        running = [job for job in jobs.all() if jobs.alive(job)]
        is_empty = outcome is None and not at.versions() and not running
        return [
            _welcome() if is_empty else _production(at),
            gr.update(visible=bool(running), value=_running(running)),
            gr.update(visible=is_empty),
            gr.update(visible=outcome is not None),
            plots.intervals(outcome.scores, outcome.pick.subject.kind) if outcome else None,
            _words(outcome) if outcome else "",
            _time(outcome) if outcome else "",
        ]

    def run_demo() -> Any:
        jobs.run_shipped(DEMO)
        return show_runs()

    outputs = [production, busy, start, last, plot, words, rest]
    demo.click(run_demo, outputs=tabs)
    own.click(show_runs, outputs=tabs)
    return Panel(outputs, refresh)


def _welcome() -> Html:
    return el(
        "div",
        empty(
            "This workspace is empty.",
            "Run the demo: it tunes a small model on rated sentences and compares it with cheap rows, in minutes. "
            "Or start from a CSV, JSONL or Parquet file of your own.",
        ),
        class_="lo-scope",
    )


def _running(running: list[Job]) -> Html:
    lines = [f"{job.name} is being worked on since {job.started:%H:%M} UTC. See Runs." for job in running]
    return el("div", note(*(el("div", line) for line in lines)), class_="lo-scope")


def _production(at: Workspace) -> Html:
    promotions = tuple(at.ledger.read(Promotion))
    names = list(dict.fromkeys(event.name for event in reversed(promotions)))
    cards: list[Html] = []
    for name in names:
        event = champion(promotions, name)
        if event is not None:
            cards.append(
                el("div", _champion(at, event), card(f"Health of {name}", _health(at, name)), class_="lo-pair")
            )
    if not cards:
        refs = ", ".join(version.ref for version in at.versions()) or "none yet"
        cards = [
            card(
                "Production",
                el("p", "Nothing answers as production.", class_="lo-big"),
                el(
                    "p",
                    f"Versions: {refs}. `llmops promote NAME:NUMBER` makes one answer, on evidence.",
                    class_="lo-quiet",
                ),
            )
        ]
    return el("div", el("div", *cards, class_="lo-grid"), class_="lo-scope")


def _champion(at: Workspace, event: Promotion) -> Html:
    ref = f"{event.name}:{event.version}"
    version = views.version(at, ref)
    what = f"{row_name(version.kind)}, on {version.base}" if version else "its folder is missing"
    marks = [chip("production", "good")]
    if event.override:
        marks.append(chip("a gate had refused", "bad"))
    if event.rollback:
        marks.append(chip("rolled back"))
    return card(
        "Answers as production",
        el("p", ref, " ", *marks, class_="lo-big"),
        el("p", what),
        el("p", event.because),
        el("p", f"Since {when(event.at, at.world.clock())}, by {event.author}.", class_="lo-quiet"),
        *_trial(at, event.name),
    )


def _trial(at: Workspace, name: str) -> list[Html]:
    """What is tried beside it, where something is."""
    from llmops import pipeline

    reading = pipeline.on_trial(name, at)
    if reading is None:
        return []
    share = f"{reading.canary.share:.0%} of the conversations"
    marks = [chip(f"on trial, {share}" if reading.canary.how == "split" else f"in the shadow, {share}")]
    if reading.verdict == "promote":
        marks.append(chip("better", "good"))
    return [el("p", reading.challenger.version, " ", *marks), el("p", reading.because, class_="lo-quiet")]


def _health(at: Workspace, name: str) -> Html:
    from llmops import pipeline

    try:
        findings = pipeline.health(name, at, keep=False).findings
    except LlmopsError as error:
        return failed(error)
    return (
        el("ul", *(el("li", line) for line in findings), class_="lo-list")
        if findings
        else el("p", "Nothing to report.")
    )


def _words(outcome: Outcome) -> Html:
    return el(
        "div",
        card(
            f"Last run: {outcome.name}",
            el("p", outcome.version, " ", chip(row_name(outcome.pick.subject.kind), "good"), class_="lo-big"),
            el("p", outcome.pick.because),
            el("p", outcome.promoted, class_="lo-quiet"),
            el("ul", *(el("li", verdict(line)) for line in outcome.comparisons), class_="lo-list"),
        ),
        class_="lo-scope",
    )


def verdict(line: ComparisonLine) -> Html:
    """One comparison in a sentence: which way it fell, by how much, with interval and p."""
    tone = {"better": "good", "worse": "bad"}.get(line.verdict, "calm")
    said = {"better": "wins against", "worse": "loses to"}.get(line.verdict, "cannot be told from")
    p = "p < 0.001" if line.p < 0.001 else f"p {line.p:.3f}"
    return join(
        [
            chip(line.verdict, tone),
            f" tuned {said} {row_name(line.baseline)}: {line.delta:+.3f} [{line.low:+.3f}, {line.high:+.3f}], {p}",
        ]
    )


def _time(outcome: Outcome) -> Html:
    total = sum(outcome.seconds.values()) or 1.0
    stages = [f"{stage} {duration(seconds)}" for stage, seconds in outcome.seconds.items()]
    parts = [card(f"Where {duration(total)} went", el("p", ", ".join(stages)))]
    check = outcome.endpoint
    if check is not None:
        parts.append(
            card(
                "The same rows through the endpoint",
                el("p", f"{check.version}: offline {check.offline:.3f}, through the endpoint {check.endpoint:.3f}."),
                el("p", f"{check.differ} of {check.n} answers differ.", class_="lo-quiet"),
            )
        )
    return el("div", el("div", *parts, class_="lo-grid"), class_="lo-scope")
