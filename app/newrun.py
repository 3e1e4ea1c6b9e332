"""The form behind "New run": a file becomes a recipe, a recipe a detached job. It reads and writes YAML only."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from llmops.core.errors import LlmopsError, RequestError
from llmops.core.recipe import Recipe
from llmops.store.files import sha256_file
from llmops.store.workspace import Workspace

from .jobs import MOST_RECIPE_BYTES, Jobs, write_recipe
from .markup import Html, card, chip, el, failed, join, note, table
from .theme import html_box

if TYPE_CHECKING:
    from llmops.data.new import Look

DATA_ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
RECIPE_ENDINGS = (".yaml", ".yml")


def draw(at: Workspace, jobs: Jobs) -> Any:
    """The form. Returns a state that changes to `job/<id>` when a job was started."""
    import gradio as gr

    started = gr.State(None)
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            file = gr.File(
                label="Rows (CSV, JSONL, Parquet) or a recipe (YAML)",
                file_types=[*DATA_ENDINGS, *RECIPE_ENDINGS],
                type="filepath",
                elem_id="new-file",
                height=150,
            )
            name = gr.Textbox(label="Name of the recipe", placeholder="the file's own name", elem_id="new-name")
            look = gr.Button("Look at the file", elem_id="new-look")
        with gr.Column(scale=3, min_width=300):
            text = gr.Code(
                label="Recipe (YAML)", language="yaml", lines=12, max_lines=24, elem_id="new-yaml", interactive=True
            )
            start = gr.Button("Start the run", variant="primary", elem_id="new-start")
    seen = html_box(elem_id="new-seen")
    look.click(lambda *given: _look(at, *given), [file, name], [seen, text], show_progress="minimal")
    start.click(lambda recipe: _start(at, jobs, recipe), text, [seen, started], show_progress="minimal")
    return started


def _look(at: Workspace, file: str | None, name: str) -> list[Any]:
    """What is in an uploaded file, and the recipe that follows from it."""
    import gradio as gr

    from llmops import pipeline

    if not file:
        return [note("Choose a file first."), gr.skip()]
    try:
        kept = keep(at, Path(file))
        if kept.suffix.lower() in RECIPE_ENDINGS:
            return [note("This is a recipe. Check it, then start the run.", tone="good"), kept.read_text("utf-8")]
        look, recipe = pipeline.new(kept, name.strip() or None, at)
        return [seen(look), recipe]
    except UnicodeDecodeError:
        return [failed(RequestError("the recipe is not UTF-8 text", "save it as UTF-8")), gr.skip()]
    except LlmopsError as error:
        return [failed(error), gr.skip()]


def keep(at: Workspace, upload: Path) -> Path:
    """Copy an upload into the workspace under its content's name, so that its recipe finds it tomorrow too."""
    ending = upload.suffix.lower()
    if ending not in (*DATA_ENDINGS, *RECIPE_ENDINGS):
        raise RequestError(f"{upload.name} is not CSV, JSONL, Parquet or YAML", "export the rows as one of these")
    if ending in RECIPE_ENDINGS and upload.stat().st_size > MOST_RECIPE_BYTES:
        raise RequestError(
            "the recipe is larger than 1 MiB", "put rows into a file of their own and name it as a source"
        )
    target = at.root / "uploads" / sha256_file(upload)[:12] / upload.name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(upload, target)
    return target


def seen(look: Look) -> Html:
    """What `new` saw in a file: how the columns map and why, warnings, and some rows as a model would see them."""
    labels = ", ".join(f"{label}: {count}" for label, count in look.labels.items())
    facts = [
        ("file", f"{look.rows} rows; {look.rows_train} to train, {look.rows_heldout} held out"),
        ("columns", ", ".join(look.columns)),
        ("read as", look.shape.kind.replace("_", " and ")),
        *([("labels", labels)] if labels else []),
        *(("why", line) for line in look.why),
    ]
    rows = [
        (number, join(el("div", chip(turn.role), " ", turn.content) for turn in row))
        for number, row in enumerate(look.rendered, 1)
    ]
    return el(
        "div",
        *(note(warning, tone="bad") for warning in look.warnings),
        card("What is in the file", table(("", ""), facts)),
        card("Rows as the model sees them", table(("", "row"), rows)),
        class_="lo-scope lo-stack",
    )


def _start(at: Workspace, jobs: Jobs, text: str | None) -> list[Any]:
    """Check the YAML as the command line would, then start it."""
    import gradio as gr

    if not (text or "").strip():
        return [note("Look at a file first, or write a recipe."), gr.skip()]
    try:
        recipe = check(at, text or "")
        job = jobs.run(recipe.name, text or "")
    except LlmopsError as error:
        return [failed(error), gr.skip()]
    return [note(f"{recipe.name} was started. It goes on if you close this page.", tone="good"), f"job/{job.id}"]


def check(at: Workspace, text: str) -> Recipe:
    """The recipe that the YAML text is; `RequestError` where it is none."""
    from llmops import pipeline

    with TemporaryDirectory(prefix="llmops-recipe-") as folder:
        return pipeline.load(str(write_recipe(Path(folder), text)), [], at)
