"""Prefix extraction: which training rows are recited from their first tokens, beyond what controls explain.

Held-out rows are the control for boilerplate (a stock reply that the model learned to give is no copied row), the base
is the control for what was known by heart before. After Carlini et al. 2022, arXiv:2202.07646.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import numpy as np

from llmops.core.dataset import Row
from llmops.core.exam import CopiedRow, Copying, Recital
from llmops.evals.paired import change, more_in
from llmops.lm.readings import Reading
from llmops.lm.render import Renderer

PREFIX_TOKENS = 8
FEWEST_TOKENS = 16  # of a text that can be recited: as many behind the prefix as in it
MOST_TOKENS = 58  # 50 tokens behind the prefix, as in the paper
FEWEST_ROWS = 8


def copying(
    train: tuple[Sequence[Reading], Sequence[Reading]],
    heldout: Sequence[Reading],
    groups: tuple[Sequence[str], Sequence[str]],
) -> Copying | None:
    """What is recited: `train` as the tuned model and as the base read it, `heldout` as the tuned model does.

    `groups` are those of the trained and of the held-out rows. None where too few rows are long enough.
    """
    tuned, base = train
    long_train = [place for place, reading in enumerate(tuned) if len(reading.ids) >= FEWEST_TOKENS]
    long_heldout = [place for place, reading in enumerate(heldout) if len(reading.ids) >= FEWEST_TOKENS]
    if min(len(long_train), len(long_heldout)) < FEWEST_ROWS:
        return None
    own, before, control = (
        [by[place] for place in places]
        for by, places in ((tuned, long_train), (base, long_train), (heldout, long_heldout))
    )
    own_N, before_N, control_M = (np.array([recites(reading) for reading in some]) for some in (own, before, control))
    own_groups, control_groups = (
        [groups[0][place] for place in long_train],
        [groups[1][place] for place in long_heldout],
    )
    excesses = (
        more_in(own_N, control_M, (own_groups, control_groups)),
        change(before_N, own_N, np.ones(len(own_N)), own_groups),
    )
    return Copying(
        prefix_tokens=PREFIX_TOKENS,
        tuned_train=_recital(own),
        tuned_heldout=_recital(control),
        base_train=_recital(before),
        excess=min(excesses, key=lambda one: one.value),
    )


def recites(reading: Reading) -> float:
    """1 where greedy decoding gives all that stands behind the prefix (50 tokens of it, in a long text)."""
    rest = min(len(reading.ids), MOST_TOKENS) - PREFIX_TOKENS
    return float(reading.recited(PREFIX_TOKENS) >= rest)


def _recital(readings: Sequence[Reading]) -> Recital:
    runs = [reading.longest_run()[1] for reading in readings]
    return Recital(
        rows=len(readings), recited=int(sum(map(recites, readings))), run_tokens=float(median(runs)) if runs else 0.0
    )


def most_copied(
    rows: Sequence[Row], tuned: Sequence[Reading], base: Sequence[Reading], renderer: Renderer
) -> tuple[CopiedRow, ...]:
    """The three rows with the longest run that the tuned model recites, beyond the base's own run in the same row."""
    runs = [(own.longest_run(), before.longest_run()[1]) for own, before in zip(tuned, base, strict=True)]
    order = sorted(range(len(rows)), key=lambda place: (runs[place][1] - runs[place][0][1], rows[place].id))
    found = []
    for place in order[:3]:
        (start, length), before = runs[place]
        if length <= before:
            break
        ids = tuned[place].ids
        found.append(
            CopiedRow(
                row=rows[place].id,
                text=rows[place].text,
                given=renderer.decode(ids[:start]),
                recited=renderer.decode(ids[start : start + length]),
                because=f"{length} of its {len(ids)} tokens in one run, by the base {before}",
            )
        )
    return tuple(found)
