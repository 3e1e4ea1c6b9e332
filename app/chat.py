"""Chat: two versions side by side, the same question to both, and what people think of the answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from llmops.core.dataset import Message
from llmops.core.errors import LlmopsError
from llmops.core.serving import Sampling
from llmops.store.workspace import Workspace

from . import views
from .markup import Html, chip, el, empty, failed, join, note
from .talk import Engines, Reply, watch
from .theme import html_box
from .views import Panel

MOST_PROMPTS = 8


@dataclass(frozen=True)
class Side:
    """One of the two conversations. `by` names the version of each assistant turn; `exchange` is the last one's id."""

    turns: tuple[Message, ...] = ()
    by: tuple[str, ...] = ()
    exchange: str = ""

    def asked(self, question: str) -> Side:
        return replace(
            self, turns=(*self.turns, Message(role="user", content=question)), by=(*self.by, ""), exchange=""
        )

    def answered(self, reply: Reply) -> Side:
        """With the reply; without the question too where the reply failed, so that it can be asked again."""
        if reply.error is not None or not reply.text:
            return replace(self, turns=self.turns[:-1], by=self.by[:-1])
        turn = Message(role="assistant", content=reply.text)
        return Side((*self.turns, turn), (*self.by, reply.ref), reply.exchange)


@dataclass
class Column:
    """The components of one side."""

    version: Any
    talk: Any
    good: Any
    bad: Any
    edit: Any
    save: Any
    said: Any
    side: Any = field(default=None)


def show(side: Side, reply: Reply | None = None) -> Html:
    """A conversation, newest at the bottom and in view, with the reply that is still growing."""
    parts: list[Html] = []
    for turn, by in zip(side.turns, side.by, strict=True):
        if by:
            parts.append(el("div", chip(by), class_="lo-by"))
        parts.append(el("div", turn.content, class_=f"lo-say lo-{turn.role}"))
    if reply is not None:
        parts.append(el("div", chip(reply.ref, "busy"), class_="lo-by"))
        waiting = "…" if reply.began else f"Loading {reply.ref}. The first time takes a little longer …"
        parts.append(
            failed(reply.error) if reply.error else el("div", reply.text or waiting, class_="lo-say lo-assistant")
        )
    if not parts:
        parts = [el("p", "Ask something below, or take one of the ready prompts.", class_="lo-quiet")]
    return el("div", el("div", el("div", *parts, class_="lo-turns"), class_="lo-talk"), class_="lo-scope")


def draw(at: Workspace, engines: Engines) -> Panel:
    """The tab."""
    import gradio as gr

    nothing = html_box(visible=False)
    with gr.Column() as everything:
        with gr.Row():
            left, right = _column("left"), _column("right")
        with gr.Row(elem_classes="lo-prompts"):
            ready = [gr.Button("", visible=False, size="sm", elem_id=f"ready-{n}") for n in range(MOST_PROMPTS)]
        with gr.Row(equal_height=True):
            question = gr.Textbox(
                placeholder="Ask both …",
                show_label=False,
                lines=1,
                max_lines=6,
                scale=5,
                elem_id="question",
                container=False,
            )
            send = gr.Button("Send", variant="primary", scale=0, min_width=110, elem_id="send", size="md")
            clear = gr.Button("New conversation", scale=0, min_width=180, elem_id="clear", size="md")
        with gr.Row():
            keep = gr.Checkbox(
                True, label="Keep the text of this chat in the workspace", elem_id="keep", container=False
            )
        with gr.Accordion("How answers are drawn", open=False), gr.Row():
            defaults = Sampling()
            most = gr.Number(
                defaults.max_tokens, label="Longest answer, in tokens", precision=0, minimum=1, maximum=4096
            )
            heat = gr.Slider(0, 2, defaults.temperature, step=0.1, label="Temperature (0 takes the likeliest token)")

    def ask(text: str, *given: Any) -> Iterator[list[Any]]:
        yield from _ask(engines, text, given)

    sides = [left.side, right.side]
    inputs = [*sides, left.version, right.version, keep, most, heat]
    outputs = [question, *sides, left.talk, right.talk, left.edit, right.edit, left.said, right.said]
    running = [gr.on([send.click, question.submit], ask, [question, *inputs], outputs, show_progress="hidden")]
    running += [button.click(ask, [button, *inputs], outputs, show_progress="hidden") for button in ready]
    clear.click(_clear, None, outputs, cancels=running, show_progress="hidden")
    for column in (left, right):
        _wire_feedback(at, column, keep)
    gr.on(
        [left.version.input, right.version.input],
        lambda *refs: _buttons(at, refs),
        [left.version, right.version],
        ready,
    )

    def refresh(left_ref: str | None, right_ref: str | None) -> list[Any]:
        return _refresh(at, left_ref, right_ref)

    return Panel([nothing, everything, left.version, right.version, *ready], refresh, [left.version, right.version])


def _refresh(at: Workspace, left_ref: str | None, right_ref: str | None) -> list[Any]:
    """Who can be talked to, what was chosen or else base and tuned, and the ready prompts."""
    import gradio as gr

    choices = views.speakers(at)
    refs = [ref for _, ref in choices]
    tuned = refs[0] if refs else None
    version = views.version(at, tuned) if tuned else None
    base = version.base if version else tuned
    chosen = [left_ref if left_ref in refs else base, right_ref if right_ref in refs else tuned]
    hint = empty("There is nobody to talk to yet.", "Run the demo on Today, or start a run of your own on Runs.")
    return [
        gr.update(visible=not refs, value=el("div", hint, class_="lo-scope")),
        gr.update(visible=bool(refs)),
        *(gr.update(choices=choices, value=ref) for ref in chosen),
        *_buttons(at, (chosen[1], chosen[0])),
    ]


def _column(where: str) -> Column:
    import gradio as gr

    with gr.Column(min_width=300):
        version = gr.Dropdown([], show_label=False, container=False, elem_id=f"version-{where}", filterable=False)
        talk = html_box(show(Side()), elem_id=f"talk-{where}")
        with gr.Row():
            good = gr.Button("Good answer", size="sm", min_width=90, elem_id=f"good-{where}")
            bad = gr.Button("Bad answer", size="sm", min_width=90, elem_id=f"bad-{where}")
        with gr.Accordion("Write the answer you would have wanted", open=False, elem_id=f"better-{where}"):
            edit = gr.Textbox(show_label=False, lines=3, container=False, elem_id=f"edit-{where}")
            save = gr.Button("Save", size="sm", elem_id=f"save-{where}")
        said = html_box(elem_id=f"said-{where}")
    return Column(version, talk, good, bad, edit, save, said, gr.State(Side()))


def _ask(engines: Engines, text: str, given: tuple[Any, ...]) -> Iterator[list[Any]]:
    """Ask both sides and yield what the page shows, until both have answered."""
    import gradio as gr

    *sides, left_ref, right_ref, keep, most, heat = given
    refs = [left_ref, right_ref]
    if not text.strip() or not all(refs):
        yield [gr.skip()] * 9
        return
    sides = [side.asked(text) for side in sides]
    sampling = Sampling(max_tokens=int(most), temperature=float(heat))
    replies = [engines.ask(ref, side.turns, sampling, keep) for ref, side in zip(refs, sides, strict=True)]
    for _ in watch(replies):
        talks = [show(side, reply) for side, reply in zip(sides, replies, strict=True)]
        yield ["", gr.skip(), gr.skip(), *talks, gr.skip(), gr.skip(), "", ""]
    after = [side.answered(reply) for side, reply in zip(sides, replies, strict=True)]
    talks = [
        show(side, reply) if reply.error else show(new) for side, reply, new in zip(sides, replies, after, strict=True)
    ]
    yield ["", *after, *talks, *(reply.text for reply in replies), "", ""]


def _clear() -> list[Any]:
    return ["", Side(), Side(), show(Side()), show(Side()), "", "", "", ""]


def _buttons(at: Workspace, refs: Any) -> list[Any]:
    """Updates that put the ready prompts of these versions on the buttons."""
    import gradio as gr

    found = views.prompts(at, [ref for ref in refs if ref], MOST_PROMPTS)
    shown = [gr.update(value=prompt, visible=True) for prompt in found]
    return shown + [gr.update(value="", visible=False)] * (MOST_PROMPTS - len(found))


def _wire_feedback(at: Workspace, column: Column, keep: Any) -> None:
    """Thumbs and edits of the last answer go into the ledger."""
    from llmops import pipeline

    def store(side: Side, thumb: Any, edit: str | None, thanks: str) -> Html:
        if not side.exchange:
            return note("There is no answer to judge yet.")
        try:
            pipeline.feedback(side.exchange, thumb, edit, at)
        except LlmopsError as error:
            return failed(error)
        return note(join([thanks, " "]), tone="good")

    def better(side: Side, edit: str, kept: bool) -> Html:
        if not kept:
            return note("Text is not kept now. Switch it on below to store an answer of your own.")
        if not edit.strip():
            return note("Write the answer first.")
        return store(side, None, edit, "Saved. `llmops curate` makes a training row of it.")

    quiet: dict[str, Any] = {"outputs": column.said, "show_progress": "hidden"}
    column.good.click(lambda side: store(side, "up", None, "Noted as good."), column.side, **quiet)
    column.bad.click(lambda side: store(side, "down", None, "Noted as bad."), column.side, **quiet)
    column.save.click(better, [column.side, column.edit, keep], **quiet)
