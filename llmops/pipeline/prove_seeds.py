"""Proof on real models: the same plan by another seed is no better model, and must not be called one.

A tiny model is trained by many seeds; each is compared with the next one as any two versions are.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from llmops.core.proof import CheckResult, Size
from llmops.core.recipe import Recipe
from llmops.pipeline.prove_letters import LETTERS, apart, drawn, letters_recipe
from llmops.store.workspace import Workspace

PAIRS = {"ci": 3, "soak": 20}
ROWS, GUESSED = 360, 3


def checks(size: Size, at: Workspace) -> Iterator[CheckResult]:
    """Pairs of seeds, none of them better."""
    with apart("seeds", at) as (folder, quiet):
        yield _pairs(PAIRS[size], folder, quiet)


def _pairs(number: int, folder: Path, at: Workspace) -> CheckResult:
    from llmops.pipeline.judge import compare
    from llmops.pipeline.make import plan, prepare
    from llmops.pipeline.seeds import train_seeds
    from llmops.training.prove_sample import write_base

    write_base(folder / "base")
    recipe = _recipe(folder)
    runs = train_seeds(plan(recipe, prepare(recipe, at), at), number + 1, at).runs
    made = [compare(one.run, other.run, at) for one, other in pairwise(runs)]
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
    labels = [drawn(number) for number in range(ROWS)]
    texts = (f"{number} {LETTERS[label] if number % GUESSED else 'z' * 6}" for number, label in enumerate(labels))
    return letters_recipe("seeds", folder, zip(texts, labels, strict=True))
