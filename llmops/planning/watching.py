"""Which rows are watched while training goes on, and how often: the curve that says whether it still helps.

Held-out rows may be watched as long as nothing is chosen by them. Where training is to stop early and to keep the best
weights, the rows that choose are set aside from the training rows, so that the exam at the end stays unseen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmops.core.value import digest

if TYPE_CHECKING:
    from llmops.core.recipe import Recipe
    from llmops.planning.decide import Decisions
    from llmops.planning.plan import Looked

LOOKS = {False: 5, True: 10}  # in a run; more where training may stop at one
COST_SHARE = 0.1  # of the time of training that looking may cost where it chooses nothing
FEWEST, MOST = 8, 256
ASIDE_SHARE = 0.1  # of the training rows


def set_aside(recipe: Recipe, looked: Looked, kept: Sequence[int]) -> tuple[str, ...]:
    """Ids of the training rows (`kept`: their places) that choose the best weights; none where nothing is chosen.

    Whole groups are drawn by the hash of their name, so that no group is on both sides.
    """
    if not recipe.training.patience:
        return ()
    wanted = min(MOST, max(FEWEST, round(ASIDE_SHARE * len(kept))))
    members: dict[str, list[str]] = {}
    for place in kept:
        members.setdefault(looked.row_groups[place], []).append(looked.row_ids[place])
    taken: list[str] = []
    for group in sorted(members, key=digest):
        if len(taken) >= wanted:
            break
        taken += members[group]
    return tuple(sorted(taken)) if len(taken) < len(kept) else ()


def watch(
    decide: Decisions, recipe: Recipe, looked: Looked, aside: tuple[str, ...], steps: int, rows_seen: int
) -> tuple[str, ...]:
    """Decide `look_every` and `patience`; the ids of the rows that are watched."""
    patience = decide.take(
        "patience", recipe.training.patience, 0, "one falling rate to zero: the last weights are the best there are"
    )
    looks = LOOKS[bool(patience)]
    # A look reads a row once forward, training forward and back: half the operations.
    affordable = int(2 * COST_SHARE * rows_seen / looks)
    drawn = tuple(sorted(looked.heldout_ids, key=digest)[: min(MOST, max(FEWEST, affordable))])
    watched = aside or drawn
    source = f"{len(aside)} rows set aside from training" if aside else f"{len(drawn)} held-out rows"
    every = decide.take(
        "look_every",
        recipe.training.look_every,
        max(1, math.ceil(steps / looks)) if watched else 0,
        f"{looks} looks at {source}: about {_cost(looks, len(watched), rows_seen):.0%} of the time of training",
    )
    return watched if every else ()


def _cost(looks: int, watched: int, rows_seen: int) -> float:
    return looks * watched / max(1, 2 * rows_seen)
