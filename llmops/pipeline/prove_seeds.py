"""Proof on real models: the same plan by another seed is no better model, and must not be called one.

A tiny model is trained by many seeds; each is compared with the next one as any two versions are.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from llmops.core.context import say_nothing
from llmops.core.method import FullTuning, Training
from llmops.core.proof import CheckResult, Size
from llmops.core.recipe import Recipe
from llmops.core.sources import Data, Labelled, Source
from llmops.core.tasks import Classify
from llmops.core.value import digest
from llmops.store.workspace import Workspace

PAIRS = {"ci": 3, "soak": 20}
LABELS = ("bad", "good")
LETTERS = {"bad": "oooooo", "good": "xxxxxx"}
ROWS, GUESSED = 360, 3


def checks(size: Size, at: Workspace) -> Iterator[CheckResult]:
    """Pairs of seeds, none of them better."""
    folder = at.root / "proof-seeds"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield _pairs(PAIRS[size], folder, at)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _pairs(number: int, folder: Path, at: Workspace) -> CheckResult:
    from llmops.pipeline.judge import compare
    from llmops.pipeline.make import plan, prepare
    from llmops.pipeline.seeds import train_seeds
    from llmops.training.prove_sample import write_base

    write_base(folder / "base")
    apart = replace(at, root=folder / "workspace", database_url=None, world=replace(at.world, say=say_nothing))
    recipe = _recipe(folder)
    runs = train_seeds(plan(recipe, prepare(recipe, apart), apart), number + 1, apart).runs
    made = [compare(one.run, other.run, apart) for one, other in pairwise(runs)]
    better = sum(one.verdict == "better" for one in made)
    changed = [one.overall for one in made]
    return CheckResult(
        name="pairs of seeds of a real model",
        found=number - better,
        of=number,
        goal='at most 5 % called "better"',
        passed=better <= 0.05 * number,
        note=f"accuracy {min(one.score.value for one in runs):.3f} to {max(one.score.value for one in runs):.3f}; "
        f"smallest p {min(one.p for one in changed):.3f}",
    )


def _recipe(folder: Path) -> Recipe:
    """Rows whose last letters decide, and every third row where nothing does: there each seed guesses in its own way.

    So no seed is better than another, and yet they answer differently.
    """
    lines = ["text,label"]
    for number in range(ROWS):
        label = LABELS[int(digest(number)[:8], 16) % 2]
        lines.append(f"{number} {LETTERS[label] if number % GUESSED else 'z' * 6},{label}")
    file = folder / "rows.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Recipe(
        name="seeds",
        base=f"path:{folder / 'base'}",
        data=Data(sources=(Source(from_=f"path:{file}", shape=Labelled()),), heldout_share=0.5),
        task=Classify(question="Good or bad?", labels=LABELS),
        method=FullTuning(),  # of random weights, an adapter learns nothing in so few steps
        training=Training(epochs=4.0, batch_rows=8, learning_rate=0.003),
    )
