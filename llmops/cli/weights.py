"""Pictures of certificates and exports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Group, RenderableType

from llmops.cli.tables import pairs, table, text
from llmops.core.certificate import Certificate
from llmops.core.export import HOLDS, Export


def certificate(value: Certificate) -> RenderableType:
    """Every check of every stage, the broken ones in red with their reason, and the verdict."""
    title = (
        f"certificate of {value.version}: {value.rows} held-out rows, {value.positions} places, {value.probes} probes"
    )
    made = table("stage", "what must have survived", "is", "may be", "", title=title)
    for stage in value.stages:
        for place, check in enumerate(stage.checks):
            bound = f"{'at least' if check.at_least else 'at most'} {check.limit:.3g}"
            cells = (text(stage.name if place == 0 else ""), text(check.name), text(f"{check.value:.3g}"), text(bound))
            made.add_row(*cells, text("passed", "green") if check.passed else text("BROKEN", "bold red"))
    ways = text(" > ".join(stage.artefact for stage in value.stages), "dim")
    return Group(made, ways, text(value.because, "bold"))


def export(value: Export) -> RenderableType:
    """The files with their sha256, and the command that uses them."""
    certify = f"llmops certify {value.version}" + (f" --as {value.form}" if value.form in HOLDS else "")
    unseen = "its certificate does not look at this form" if value.certificate else f"'{certify}' makes a certificate"
    said = {True: "passed", False: "BROKEN", None: unseen}[value.certified]
    head = {"version": value.version, "as": value.form, "folder": value.folder, "parity": said}
    if value.prompts is not None:
        same = f"{value.prompts - value.prompts_differ} of {value.prompts} held-out prompts"
        head["template"] = f"the same tokens as in training for {same}; Ollama itself was not asked"
    if value.system and value.form != "ollama":  # its Modelfile has it
        head["system prompt"] = f"send it with each conversation: {value.system}"
    files = {name: sha256[:16] for name, sha256 in value.files.items()}
    return Group(pairs({**head, **files}), text(value.how.replace("FOLDER", value.folder), "bold"))


PICTURES: dict[type, Callable[[Any], RenderableType]] = {Certificate: certificate, Export: export}
