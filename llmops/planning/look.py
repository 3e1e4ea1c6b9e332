"""`look`: everything that planning needs to know and cannot read off the recipe: machine, base, lengths of rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llmops.core.context import Surroundings
from llmops.core.dataset import Row
from llmops.core.plan import Wishes
from llmops.core.recipe import Recipe
from llmops.planning.bases import open_base
from llmops.planning.plan import Looked
from llmops.planning.start import read_start


def look(
    recipe: Recipe,
    rows: Sequence[Row],
    heldout: Sequence[Row],
    wishes: Wishes,
    world: Surroundings,
    start: tuple[str, Path] | None = None,
) -> Looked:
    """Measure this machine, open the base (converted the first time), tokenise and check the training rows.

    `start` is what the recipe starts from: its name, and its folder.
    """
    from llmops.lm import machine
    from llmops.lm.adapters import linear_names
    from llmops.lm.base import load_tokenizer, template_of
    from llmops.lm.check import refuse
    from llmops.lm.lessons import lessons
    from llmops.lm.render import Renderer

    base = open_base(recipe.base, world)
    tokenizer = load_tokenizer(base.folder)
    template = template_of(tokenizer)
    renderer = Renderer(tokenizer, template)
    refuse(rows, [renderer.row(row) for row in rows], renderer)
    taught = lessons(renderer, list(world.track(rows, "reading rows", len(rows))), recipe.objective)
    learned = sum(len(example.places) for lesson in taught for example in lesson.examples)
    return Looked(
        machine=machine.look(wishes.device),
        base=base.record,
        shape=base.shape,
        template=template,
        targets=linear_names(base.folder),
        row_ids=[row.id for row in rows],
        row_groups=[row.group for row in rows],
        heldout_ids=[row.id for row in heldout],
        start=read_start(*start, base.record) if start else None,
        row_tokens=[lesson.tokens for lesson in taught],
        learned_share=learned / max(1, sum(lesson.tokens for lesson in taught)),
        shared_tokens=shared_beginning([lesson.examples[0].ids for lesson in taught]),
    )


def shared_beginning(rows: Sequence[list[int]]) -> int:
    """How many tokens all rows begin with: the first and last in order say it of all. One row shares with nobody."""
    if len(rows) < 2:
        return 0
    low, high = min(rows), max(rows)
    differ = (place for place, (one, other) in enumerate(zip(low, high, strict=False)) if one != other)
    return next(differ, min(len(low), len(high)))
