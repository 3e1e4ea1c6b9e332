"""The verbs that move weights in and out, and say what became of them on the way: `adopt certify export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

import llmops
from llmops.cli.recipes import find_recipe
from llmops.cli.session import FetchingSession, Session
from llmops.core.export import HOLDS, known_form


def certify(
    version: Annotated[str, Argument(metavar="VERSION", help="A version with tuned weights: tone:2, tone@production.")],
    again: Annotated[bool, Option("--again", help="Make it anew where there is one.")] = False,
    form: Annotated[
        str | None, Option("--as", metavar="FORM", help="A gguf-... of 'export'. Left out: what is served.")
    ] = None,
    engine: Annotated[
        Literal["llama.cpp", "vLLM"],
        Option("--engine", help="What serves it: llama.cpp, or vLLM, which 'serve' takes for many readers."),
    ] = "llama.cpp",
    session: FetchingSession = FetchingSession(),
) -> None:
    """Is what is served what was trained? The same rows asked of the adapter, merged, converted and served weights.

    Example: llmops certify tone:1
    """
    weights = HOLDS.get(known_form(form)) if form else None
    found = llmops.certify(version, session.at, again, weights, engine)
    session.show(found)
    if found.broken:
        mend = "nothing may be promoted on it; mend that stage, then certify --again"
        if engine == "vLLM":
            mend = "'serve' answers with llama.cpp instead; mend that stage, then certify --engine vLLM --again"
        raise llmops.Refusal(found.because, mend if weights is None else "export it --as gguf-f16, or in other bits")


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
        str,
        Option(
            "--as", metavar="FORM", help="adapter, safetensors, ollama, gguf- and f16 bf16 q8_0 q5_1 q5_0 q4_1 q4_0."
        ),
    ] = "gguf-q8_0",
    session: Session = Session(),
) -> None:
    """Write a version for another program, with the sha256 of each file and what its certificate says of that form.

    Example: llmops export tone:1 --as ollama -o tone-ollama
    """
    session.show(llmops.export(version, out, known_form(form), session.at))
