"""Inspect: the tokens of a reply with their probabilities, and the tokens of a training row with the loss mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmops.core.dataset import DatasetManifest
from llmops.core.errors import LlmopsError
from llmops.core.plan import Plan
from llmops.core.recipe import Recipe
from llmops.core.views import RowView, SetView, TokenView
from llmops.store.workspace import Workspace

from . import views
from .markup import Html, card, el, empty, failed, join, note, table
from .people import draw_people
from .theme import html_box
from .views import Panel

DEFAULT_BASE = str(Recipe.model_fields["base"].default)


def visible(text: str) -> str:
    """A token's text with its line ends and tabs shown; a token without any text as a box."""
    return text.replace("\r", "␍").replace("\n", "⏎\n").replace("\t", "⇥") or "▯"


def shade(probability: float) -> str:
    """The background of a token: red where the model was surprised, no colour where it was sure."""
    doubt = 1.0 - min(1.0, max(0.0, probability))
    return f"background: rgba(214, 84, 60, {0.78 * doubt:.2f})"


def reply_html(tokens: Sequence[TokenView]) -> Html:
    """A reply's tokens, coloured by probability; each shows its alternatives when it is pointed at or focused."""
    shown = [_reply_token(token) for token in tokens if token.probability is not None]
    if not shown:
        return note("The reply has no tokens.")
    key = el(
        "div",
        *(
            el("span", el("span", "", class_="lo-swatch", style=shade(level)), f"{level:.0%}")
            for level in (1.0, 0.75, 0.5, 0.25, 0.0)
        ),
        "Point at a token to see what else might have come.",
        class_="lo-key",
    )
    return el("div", key, el("div", *shown, class_="lo-tokens"), class_="lo-scope")


def _reply_token(token: TokenView) -> Html:
    probability = token.probability or 0.0
    lines = [f"{probability:7.2%}  {visible(token.text)!s}  (this one)"]
    lines += [f"{chance:7.2%}  {visible(text)}" for text, chance in token.alternatives]
    tip = el("span", "\n".join(line.replace("\n", "") for line in lines), class_="lo-tip", role="tooltip")
    return el("span", visible(token.text), tip, class_="lo-token", style=shade(probability), tabindex="0")


def row_html(row: RowView) -> Html:
    """A training row's tokens, coloured by what becomes of them: trained, only read, or left out; and the verdicts."""
    trained, all_of_them = row.trained, len(row.tokens)
    fates = [("lo-trained", f"trained, {trained} tokens"), ("lo-masked", f"masked, {all_of_them - trained} tokens")]
    if row.left_out:
        fates = [("lo-left", f"left out as too long, {all_of_them} tokens")]
    key = el(
        "div", *(el("span", el("span", "", class_=f"lo-swatch {kind}"), said) for kind, said in fates), class_="lo-key"
    )
    shown = [_row_token(token, row.left_out) for token in row.tokens]
    worse = [el("p", el("b", "The worse reply: "), row.rejected)] if row.rejected is not None else []
    return el("div", key, el("div", *shown, class_="lo-tokens"), *row_notes(row), *worse, class_="lo-scope lo-stack")


def _row_token(token: TokenView, left_out: bool) -> Html:
    fate = "left out" if left_out else "trained" if token.trained else "masked"
    tip = el("span", f"id {token.id}\n{fate}", class_="lo-tip", role="tooltip")
    kind = {"left out": "lo-left", "trained": "lo-trained", "masked": "lo-masked"}[fate]
    return el("span", visible(token.text), tip, class_=f"lo-token {kind}", tabindex="0")


def row_notes(row: RowView) -> list[Html]:
    """What is true of a row: its end token, its faults, and the round trip with the first difference."""
    notes = [
        note("The end token is trained.", tone="good")
        if row.end_trained
        else note("No end token is trained: the model would not learn to stop.", tone="bad")
    ]
    if row.left_out:
        notes.append(note("This row is longer than max_tokens. It is left out whole; rows are never cut.", tone="bad"))
    if row.fault:
        notes.append(note(f"Training on it would {row.fault.removeprefix('would ')}.", tone="bad"))
    trip = row.round_trip
    if trip is None:
        notes.append(note("Not compared with a chat template: the base has none, or this is running text."))
    elif trip.same:
        notes.append(note("The base's own chat template gives the same tokens.", tone="good"))
    else:
        lines = f"ours:   {visible(trip.ours)}\ntheirs: {visible(trip.theirs)}"
        notes += [note(f"The base's own chat template differs at token {trip.at}:", tone="bad"), el("pre", lines)]
    return notes


def set_html(seen: SetView) -> Html:
    """All training rows of a set, counted: a bar of what is trained, and a line for each check."""
    bar = el(
        "div",
        el("span", "", class_="lo-trained", style=f"width: {seen.share:.2%}"),
        class_="lo-share lo-masked",
        role="img",
        aria_label=f"{seen.share:.1%} of the tokens are trained",
    )
    trips = f"{seen.same:,} of {seen.round_trips:,} rows give the same tokens"
    if seen.first_other is not None:
        trips += f"; the first that differs is row {seen.first_other}"
    faults = "; ".join(f"{number:,} rows {wrong}" for wrong, number in seen.faults.items()) or "none"
    lines = [
        ("rows", f"{seen.rows:,} to train, {seen.left_out:,} of them left out as too long"),
        ("tokens", f"{seen.tokens:,}; a row has from {seen.shortest:,} to {seen.longest:,}"),
        ("trained", el("div", f"{seen.trained:,} tokens, {seen.share:.1%} of all", bar)),
        ("end token", f"trained in {seen.end_trained:,} of {seen.rows:,} rows"),
        ("own template", trips if seen.round_trips else "the base has none, or the rows are running text"),
        ("faults", faults),
    ]
    return el("div", card(f"All rows, as {seen.base} reads them", table(("", ""), lines)), class_="lo-scope")


def draw(at: Workspace) -> Panel:
    """The tab."""
    import gradio as gr

    with gr.Tabs():
        with gr.Tab("A reply"):
            with gr.Row():
                version = gr.Dropdown(
                    [], label="Version", elem_id="inspect-version", scale=1, min_width=200, filterable=False
                )
                prompt = gr.Textbox(label="Prompt", elem_id="inspect-prompt", scale=2, lines=2, min_width=240)
                reply = gr.Textbox(
                    label="Reply (empty: the version's own)",
                    elem_id="inspect-reply-text",
                    scale=2,
                    lines=2,
                    min_width=240,
                )
            with gr.Row():
                look = gr.Button(
                    "Show the tokens", variant="primary", size="md", scale=0, min_width=170, elem_id="inspect-reply"
                )
            tokens = html_box(elem_id="reply-tokens")
        with gr.Tab("A training row", elem_id="tab-row"):
            with gr.Row():
                dataset = gr.Dropdown([], label="Data set", elem_id="inspect-dataset", scale=3, filterable=False)
                base = gr.Dropdown([], label="As this base reads it", elem_id="inspect-base", scale=2, filterable=False)
                number = gr.Number(0, label="Row", precision=0, minimum=0, elem_id="inspect-row-number", scale=1)
            with gr.Row():
                open_row = gr.Button(
                    "Show the row", variant="primary", size="md", scale=0, min_width=170, elem_id="inspect-row"
                )
                open_set = gr.Button("Count all rows", size="md", scale=0, min_width=170, elem_id="inspect-set")
            row = html_box(elem_id="row-tokens")
            draw_people(at, dataset, number)
            counted = html_box(elem_id="set-counts")
    hint = html_box()
    look.click(lambda *given: _reply(at, *given), [version, prompt, reply], tokens, show_progress="minimal")
    for event in (open_row.click, number.submit):
        event(lambda *given: _row(at, *given), [dataset, number, base], row, show_progress="minimal")

    open_set.click(lambda *given: _set(at, *given), [dataset, base], counted, show_progress="minimal")

    def refresh(kept_version: str | None, kept_dataset: str | None, kept_base: str | None) -> list[Any]:
        speakers, datasets = views.speakers(at), views.datasets(at)
        bases = list(dict.fromkeys([plan.base.name for plan in reversed(at.all(Plan))] + [DEFAULT_BASE]))
        nothing = empty(
            "There is nothing to look at yet.", "Run the demo on Today, or start a run of your own on Runs."
        )
        return [
            _kept(speakers, kept_version),
            _kept(datasets, kept_dataset),
            _kept([(base, base) for base in bases], kept_base),
            el("div", nothing, class_="lo-scope") if not speakers and not datasets else "",
        ]

    return Panel([version, dataset, base, hint], refresh, [version, dataset, base])


def _kept(choices: list[tuple[str, str]], now: str | None) -> Any:
    """An update with new choices that keeps what was chosen, where it is still there."""
    import gradio as gr

    values = [value for _, value in choices]
    return gr.update(choices=choices, value=now if now in values else (values[0] if values else None))


def _reply(at: Workspace, ref: str | None, prompt: str, reply: str) -> Html:
    from llmops import pipeline

    if not ref or not prompt.strip():
        return note("Choose a version and write a prompt.")
    try:
        return reply_html(pipeline.inspect_reply(ref, prompt, reply or None, at))
    except LlmopsError as error:
        return failed(error)


def _row(at: Workspace, dataset: str | None, number: float | None, base: str | None) -> Html:
    from llmops import pipeline

    if not dataset or number is None or not base:
        return note("Choose a data set, a base and a row.")
    try:
        manifest = at.get(DatasetManifest, dataset)
        if not 0 <= number < manifest.rows_train:
            return note(f"Rows go from 0 to {manifest.rows_train - 1}.", tone="bad")
        line = at.rows(dataset, "train")[int(number)]
        where = el("p", f"Row {int(number)}, {line.source}, line {line.line}", class_="lo-quiet")
        return join(
            [el("div", where, class_="lo-scope"), row_html(pipeline.inspect_row(dataset, int(number), base, at))]
        )
    except LlmopsError as error:
        return failed(error)


def _set(at: Workspace, dataset: str | None, base: str | None) -> Html:
    from llmops import pipeline

    if not dataset or not base:
        return note("Choose a data set and a base.")
    try:
        return set_html(pipeline.inspect_set(dataset, base, at))
    except LlmopsError as error:
        return failed(error)
