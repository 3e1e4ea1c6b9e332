"""The verbs that move weights in and out, and say what became of them on the way: `adopt certify export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

import llmops
from llmops.cli.recipes import find_recipe
from llmops.cli.session import FetchingSession, Session

Form = Literal["adapter", "safetensors", "gguf-f16", "gguf-q8_0", "ollama"]


def certify(
    version: Annotated[str, Argument(metavar="VERSION", help="A version with tuned weights: tone:2, tone@production.")],
    again: Annotated[bool, Option("--again", help="Make it anew where there is one.")] = False,
    session: FetchingSession = FetchingSession(),
) -> None:
    """Is what is served what was trained? The same rows asked of the adapter, merged, converted and served weights.

    Example: llmops certify tone:1
    """
    found = llmops.certify(version, session.at, again)
    session.show(found)
    if found.broken:
        raise llmops.Refusal(found.because, "nothing may be promoted on it; mend that stage, then certify --again")


def adopt(
    adapter: Annotated[Path, Argument(metavar="FOLDER", help="An adapter that PEFT, TRL, LLaMA-Factory ... wrote.")],
    recipe: Annotated[
        str, Option("--recipe", metavar="RECIPE", help="Its base, task and held-out rows: what it is measured on.")
    ],
    session: FetchingSession = FetchingSession(),
) -> None:
    """Take in an adapter that another tool trained: checked, measured on a recipe's held-out rows, kept as a version.

    Example: llmops adopt outputs/checkpoint-300 --recipe tone
    """
    session.show(llmops.adopt(adapter, find_recipe(recipe, [], session.at), session.at))


def export(
    version: Annotated[str, Argument(metavar="VERSION", help="A version: tone:2, tone@production.")],
    out: Annotated[Path, Option("--out", "-o", metavar="FOLDER", help="An empty or new folder.")],
    form: Annotated[
        Form, Option("--as", help="adapter: vLLM, llama.cpp; safetensors: merged; gguf-...: llama.cpp; ollama.")
    ] = "gguf-q8_0",
    session: Session = Session(),
) -> None:
    """Write a version for another program, with the sha256 of each file and what its certificate says of that form.

    Example: llmops export tone:1 --as ollama -o tone-ollama
    """
    session.show(llmops.export(version, out, form, session.at))
