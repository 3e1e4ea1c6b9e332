"""People and rows: correct a label or a reply, write a note, open the card of a set."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from llmops.core.dataset import DatasetManifest, Row
from llmops.core.errors import LlmopsError
from llmops.core.people import Corrected, Note
from llmops.store.workspace import Workspace

from .markup import Html, el, failed, join, note, table
from .theme import html_box


def draw_people(at: Workspace, dataset: Any, number: Any) -> None:
    """The place below a training row where a person says what it should be. `dataset` and `number` name the row."""
    import gradio as gr

    with gr.Accordion("Correct this row, or write a note", open=False, elem_id="people"):
        with gr.Row():
            answer = gr.Textbox(label="The right label or reply", elem_id="people-answer", scale=2, min_width=220)
            text = gr.Textbox(label="Note", elem_id="people-note", scale=3, min_width=220)
            tags = gr.Textbox(label="Tags, with commas", elem_id="people-tags", scale=1, min_width=140)
        with gr.Row():
            mend = gr.Button("Correct", variant="primary", size="md", scale=0, min_width=150, elem_id="people-correct")
            write = gr.Button("Write the note", size="md", scale=0, min_width=150, elem_id="people-write")
            card = gr.Button("Card of the set", size="md", scale=0, min_width=150, elem_id="people-card")
        said = html_box(elem_id="people-said")
    mend.click(lambda *given: correct(at, *given), [dataset, number, answer, text], said, show_progress="minimal")
    write.click(lambda *given: write_note(at, *given), [dataset, number, text, tags], said, show_progress="minimal")
    card.click(link, dataset, said, show_progress="minimal")


def correct(at: Workspace, dataset: str | None, number: float | None, answer: str, text: str) -> Html:
    """Put a correction on record, and say when it counts."""
    from llmops import pipeline

    try:
        row = row_of(at, dataset, number)
        event = pipeline.correct(str(dataset), row.id, answer, at, text.strip())
    except LlmopsError as error:
        return failed(error)
    what = event.correction.label or event.correction.reply
    done = note(f"Row {row.id} will be {what!r} in the next set of {event.name}.", tone="good")
    return join([done, history(at, event.name, row.id)])


def write_note(at: Workspace, dataset: str | None, number: float | None, text: str, tags: str) -> Html:
    """Put a note on a row on record."""
    from llmops import pipeline

    try:
        row = row_of(at, dataset, number)
        event = pipeline.write_note(str(dataset), text, at, row.id, tags.split(","))
    except LlmopsError as error:
        return failed(error)
    return history(at, event.name, row.id)


def link(dataset: str | None) -> Html:
    """Where the card of a set is."""
    if not dataset:
        return note("Choose a data set.")
    return note(el("a", "Open the data card", href=f"card/{quote(dataset)}", target="_blank", rel="noopener"))


def card_page(at: Workspace, dataset: str) -> str:
    """The page of a set's card, written where there is none yet. Raises `RequestError` where there is no such set."""
    from llmops import pipeline

    manifest = at.get(DatasetManifest, dataset)
    page = at.folder(DatasetManifest, manifest.id) / "card.html"
    return (page if page.exists() else pipeline.card(manifest.id, at)).read_text(encoding="utf-8")


def history(at: Workspace, name: str, row: str) -> Html:
    """All that people said of a row, oldest first."""
    mended = [event.correction for event in at.ledger.read(Corrected, name, row)]
    lines = [(one.author, f"should be {one.label or one.reply}", one.note) for one in mended]
    lines += [(event.author, event.text, ", ".join(event.tags)) for event in at.ledger.read(Note, name, row)]
    return el("div", table(("who", "what", "note or tags"), lines), class_="lo-scope")


def row_of(at: Workspace, dataset: str | None, number: float | None) -> Row:
    """The training row that the tab shows. Raises `LlmopsError` where none is chosen."""
    if not dataset or number is None:
        raise LlmopsError("no row is chosen", "choose a data set and a row")
    rows = at.rows(dataset, "train")
    if not 0 <= number < len(rows):
        raise LlmopsError(f"there is no row {number:.0f}", f"rows go from 0 to {len(rows) - 1}")
    return rows[int(number)]
