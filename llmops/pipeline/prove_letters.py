"""Rows whose last letters say their label: for proofs on trained models, apart from a person's own work."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from llmops.core.context import say_nothing
from llmops.core.method import FullTuning, Training
from llmops.core.recipe import Recipe
from llmops.core.sources import Data, Labelled, Source
from llmops.core.tasks import Classify
from llmops.core.value import digest
from llmops.store.workspace import Workspace

LABELS = ("bad", "good")
LETTERS = {"bad": "oooooo", "good": "xxxxxx"}


@contextmanager
def apart(name: str, at: Workspace) -> Iterator[tuple[Path, Workspace]]:
    """A scratch folder below `at`, and a quiet workspace in it; both are gone in the end."""
    folder = at.root / f"proof-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        quiet = replace(at.world, say=say_nothing)
        yield folder, replace(at, root=folder / "workspace", database_url=None, world=quiet)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def drawn(number: int) -> str:
    """The label of a row, as if by a coin, and the same on every machine."""
    return LABELS[int(digest(number)[:8], 16) % 2]


def letters_recipe(name: str, folder: Path, rows: Iterable[tuple[str, str]]) -> Recipe:
    """A recipe on rows of (text, label), written into `folder`, where the folder `base` is a model."""
    file = folder / "rows.csv"
    file.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows), encoding="utf-8")
    return Recipe(
        name=name,
        base=f"path:{folder / 'base'}",
        data=Data(sources=(Source(from_=f"path:{file}", shape=Labelled()),), heldout_share=0.5),
        task=Classify(question="Good or bad?", labels=LABELS),
        method=FullTuning(),  # of random weights, an adapter learns nothing in so few steps
        training=Training(epochs=4.0, batch_rows=8, learning_rate=0.003),
    )
