"""Runs: every training with its curve and its decisions, and whatever is being worked on right now."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from llmops.core.errors import LlmopsError
from llmops.core.plan import Plan
from llmops.core.recipe import Recipe
from llmops.core.run import Run, StepRecord
from llmops.store.workspace import Workspace

from . import newrun, plots, views
from .jobs import Job, Jobs
from .markup import Html, card, chip, duration, el, empty, failed, join, note, stamp, table
from .theme import html_box
from .views import Panel

TONES = {"finished": "good", "failed": "bad", "interrupted": "bad", "running": "busy", "created": "busy"}
POLL_S = 2.0


def draw(at: Workspace, jobs: Jobs) -> Panel:
    """The tab."""
    import gradio as gr

    with gr.Accordion("New run", open=False, elem_id="new-run") as form:
        started = newrun.draw(at, jobs)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            choice = gr.Radio([], label="Runs and jobs", elem_id="run-list", elem_classes="lo-pick")
        with gr.Column(scale=5, min_width=320):
            about = html_box(elem_id="run-about")
            with gr.Row():
                stop = gr.Button("Stop", variant="stop", size="sm", visible=False, elem_id="run-stop")
                resume = gr.Button("Go on where it stopped", size="sm", visible=False, elem_id="run-resume")
            curve = gr.Plot(show_label=False, container=False, visible=False)
            log = html_box(elem_id="run-log")
    details = html_box(elem_id="run-details")
    said = html_box(elem_id="run-said")
    poll = gr.Timer(POLL_S)
    shown = [about, stop, resume, curve, log, details]
    outputs = [choice, *shown, form]

    def refresh(chosen: str | None) -> list[Any]:
        choices = _choices(at, jobs)
        values = [value for _, value in choices]
        chosen = chosen if chosen in values else (values[0] if values else None)
        form_update = gr.skip() if choices else gr.update(open=True)
        return [gr.update(choices=choices, value=chosen), *_show(at, jobs, chosen), form_update]

    def look(chosen: str | None, before: Any) -> list[Any]:
        """What a tick of the timer changes: nothing at all where nothing has happened."""
        now = _state(at, jobs)
        if now == before:
            return [gr.skip()] * (1 + len(outputs))
        return [now, *refresh(chosen)]

    before = gr.State(None)
    quiet: dict[str, Any] = {"show_progress": "hidden"}
    choice.input(lambda chosen: _show(at, jobs, chosen), choice, shown, **quiet)
    poll.tick(look, [choice, before], [before, *outputs], **quiet)
    stop.click(lambda chosen: _stop(at, jobs, chosen), choice, said, **quiet)
    resume.click(lambda chosen: _resume(at, jobs, chosen), choice, said, **quiet)
    started.change(lambda job: [*refresh(job)[:-1], gr.update(open=False)], started, outputs, **quiet)
    return Panel(outputs, refresh, [choice])


def _choices(at: Workspace, jobs: Jobs) -> list[tuple[str, str]]:
    """(label, id) of every run, and of every job that has not come to a run (yet), newest first."""
    runs = views.runs(at)
    owners = {job.id for run in runs if (job := jobs.of(run)) is not None}
    owners |= {job.id for job in jobs.all() if job.resumes is not None}
    rows: list[tuple[datetime, str, str]] = [
        (
            run.created,
            f"{run.name} · {_status(jobs, run)} · step {run.step} of {run.steps} · {stamp(run.created)}",
            run.id,
        )
        for run in runs
    ]
    for job in jobs.all():
        if job.id not in owners:
            state = "starting" if jobs.alive(job) else "ended before training"
            rows.append((job.started, f"{job.name} · {state} · {stamp(job.started)}", f"job/{job.id}"))
    return [(label, value) for _, label, value in sorted(rows, key=lambda row: row[0], reverse=True)]


def _status(jobs: Jobs, run: Run) -> str:
    """The run's status; one that says running but whose job is dead has lost its process."""
    job = jobs.of(run)
    if run.status == "running" and job is not None and not jobs.alive(job):
        return "lost its process"
    return run.status


def _state(at: Workspace, jobs: Jobs) -> Any:
    """What the timer compares: cheap to read, different whenever there is something new to show."""
    files = [*(at.root / "runs").glob("*/*.jsonl"), *jobs.folder.glob("*/log.txt"), *jobs.folder.glob("*/*.json")]
    return sorted((str(path), path.stat().st_size) for path in files)


def _show(at: Workspace, jobs: Jobs, chosen: str | None) -> list[Any]:
    """The right-hand side for a run or a job."""
    import gradio as gr

    if chosen is None:
        hint = empty("No run yet.", "Open New run above, or run the demo on Today.")
        return [el("div", hint, class_="lo-scope"), *[gr.update(visible=False)] * 3, "", ""]
    if chosen.startswith("job/"):
        job = _job(jobs, chosen)
        alive = job is not None and jobs.alive(job)
        return [
            _about_job(jobs, job) if job else note("This job is gone."),
            gr.update(visible=alive),
            gr.update(visible=False),
            gr.update(visible=False),
            _log(jobs, job),
            "",
        ]
    run = at.run(chosen)
    steps = at.steps(run.id)
    job = jobs.of(run)
    status = _status(jobs, run)
    return [
        _about_run(run, status, steps),
        gr.update(visible=status in ("running", "created")),
        gr.update(visible=status in ("interrupted", "lost its process")),
        gr.update(visible=bool(steps), value=plots.loss_curve(steps) if steps else None),
        _log(jobs, job),
        _details(at, run, steps),
    ]


def _job(jobs: Jobs, chosen: str) -> Job | None:
    return next((job for job in jobs.all() if f"job/{job.id}" == chosen), None)


def _about_job(jobs: Jobs, job: Job) -> Html:
    code = jobs.exit_code(job)
    if jobs.alive(job):
        state, tone, words = "starting", "busy", "Rows are being prepared. A run appears here when training begins."
    elif code == 0:
        state, tone, words = "ended", "good", "It ended without an error."
    else:
        said = "its process is gone" if code is None else f"exit code {code}"
        state, tone, words = "failed", "bad", f"It ended before training began ({said}). The log says why."
    return el(
        "div",
        card(job.id, el("p", job.name, " ", chip(state, tone), class_="lo-big"), el("p", words)),
        class_="lo-scope",
    )


def _about_run(run: Run, status: str, steps: list[StepRecord]) -> Html:
    share = run.step / run.steps if run.steps else 0.0
    bar = el("div", el("div", "", style=f"width: {share:.1%}"), class_="lo-bar")
    facts = [f"step {run.step} of {run.steps}", f"{duration(run.seconds)} of training"]
    if steps:
        last = steps[-1]
        sided = f", sides with people on {last.agreed:.0%}" if last.agreed is not None else " nats a token"
        facts.append(f"loss {last.loss_nats:.3f}{sided}")
        pace = sum(record.tokens for record in steps) / max(1e-9, sum(record.seconds for record in steps))
        facts.append(f"{pace:,.0f} tokens a second")
        if status == "running":
            left = (run.steps - run.step) * sum(record.seconds for record in steps) / len(steps)
            facts.append(f"about {duration(left)} left")
    return el(
        "div",
        card(
            run.id,
            el("p", run.name, " ", chip(status, TONES.get(status, "bad")), class_="lo-big"),
            bar,
            el("p", ", ".join(facts), class_="lo-num lo-quiet", style="white-space: normal"),
            *([el("p", run.note)] if run.note else []),
        ),
        class_="lo-scope",
    )


def _log(jobs: Jobs, job: Job | None) -> Html | str:
    text = jobs.log_tail(job) if job else ""
    return el("div", el("h3", "Log"), el("pre", text, class_="lo-log"), class_="lo-scope") if text else ""


def _details(at: Workspace, run: Run, steps: list[StepRecord]) -> Html:
    """Decisions with their reasons, and the fixed prompts as they were answered on the way."""
    parts: list[Html] = []
    try:
        plan = at.get(Plan, run.plan)
        rows = [(el("code", item.field), _value(item.value), item.because) for item in plan.decisions]
        parts.append(card("Decisions", table(("knob", "value", "because"), rows, "lo-because")))
    except LlmopsError as error:
        parts.append(failed(error))
    samples = [(record.step, prompt, answer) for record in steps for prompt, answer in record.samples]
    if samples:
        parts.append(card("Answers on the way", table(("step", "prompt", "answer"), samples)))
    return el("div", *(el("div", part, style="margin-bottom: 14px") for part in parts), class_="lo-scope")


def _value(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _stop(at: Workspace, jobs: Jobs, chosen: str | None) -> Html:
    from llmops import pipeline

    try:
        if chosen and chosen.startswith("job/"):
            job = _job(jobs, chosen)
            if job:
                jobs.stop(job)
        elif chosen:
            pipeline.stop(chosen, at)
    except LlmopsError as error:
        return failed(error)
    return note("Asked to stop. It saves what it has, and can go on later.", tone="good")


def _resume(at: Workspace, jobs: Jobs, chosen: str | None) -> Html:
    try:
        run = at.run(chosen or "last")
        recipe = at.get(Plan, run.plan).recipe
        jobs.run(run.name, recipe_text(recipe), resume=run.id)
    except LlmopsError as error:
        return failed(error)
    return note(join([f"{run.id} goes on."]), tone="good")


def recipe_text(recipe: Recipe) -> str:
    """A recipe as YAML, with only what was said in it."""
    import yaml

    data = recipe.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
