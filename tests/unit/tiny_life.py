"""A small recipe on a tiny base and made-up rows: for tests that walk a model's whole life in seconds."""

from __future__ import annotations

import random
from pathlib import Path

from llmops import pipeline
from llmops.core.context import Surroundings
from llmops.core.method import LoRA, Training
from llmops.core.recipe import Evaluation, Recipe
from llmops.core.sources import Data, Labelled, Source
from llmops.core.tasks import Classify
from llmops.core.version import ModelVersion
from llmops.lm.toy_models import write_toy
from llmops.store.workspace import Workspace

GOOD = ("lovely", "bright", "kind", "splendid", "warm")
BAD = ("dull", "rude", "broken", "cold", "awful")
THINGS = ("day", "meal", "film", "room", "song", "walk", "book", "town")


def made_up_rows(number: int, seed: int = 0) -> list[tuple[str, str, str]]:
    """(text, label, place): a word that decides, among words that do not."""
    draw = random.Random(seed)
    rows = []
    for index in range(number):
        label = "good" if index % 2 else "bad"
        word = draw.choice(GOOD if label == "good" else BAD)
        text = f"a {word} {draw.choice(THINGS)} and a {draw.choice(THINGS)}, number {index}"
        rows.append((text, label, draw.choice(("north", "south"))))
    return rows


def write_csv(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    lines = ["text,label,place", *(f'"{text}",{label},{place}' for text, label, place in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def tiny_recipe(base: Path, csv: Path, epochs: float = 2, name: str = "tiny") -> Recipe:
    source = Source(from_=f"path:{csv}", shape=Labelled(), keep_fields=("place",))
    return Recipe(
        name=name,
        base=f"path:{base}",
        data=Data(sources=(source,), heldout_share=0.3),
        task=Classify(question="Good or bad?", labels=("bad", "good")),
        method=LoRA(rank=4),
        training=Training(epochs=epochs, batch_rows=8, learning_rate=0.01),
        evaluation=Evaluation(slices=("place",)),
    )


def tiny_version(folder: Path) -> tuple[Workspace, ModelVersion]:
    """A workspace with a trained version of two labels in it; its base is `folder`/base."""
    at = Workspace.find(folder / "work", Surroundings(), environ={})
    recipe = tiny_recipe(write_toy(folder / "base", "llama"), write_csv(folder / "rows.csv", made_up_rows(60)))
    run = pipeline.train(pipeline.plan(recipe, pipeline.prepare(recipe, at), at), at)
    return at, pipeline.register(pipeline.evaluate(run.id, at).id, at)
