"""The play-off: where the cheapest row cannot be told apart from a better looking one, both are tried on more rows.

Rows that are fitted in a moment are tried on every deal of the training rows from the start; a training is not. So a
tie with a tuned row rests on one deal, which can hide eight points. The budget that is left pays for the other deals.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from llmops.core.choice import Entry
from llmops.pipeline.tuning import LOADING_S, Tuning

if TYPE_CHECKING:
    from llmops.pipeline.arena import Arena
    from llmops.pipeline.notes import Notes

Doubt = Callable[[Sequence[Entry]], tuple[Entry, ...]]


def play_off(entries: Sequence[Entry], arena: Arena, notes: Notes, doubt: Doubt, left_s: float) -> list[Entry]:
    """The entries, with further reports of those in doubt.

    `doubt` says which rows a decision hangs on, none where it is clear. Ends there, where every deal was played, or
    where the next training is not paid for by `left_s`.
    """
    playing, until = {entry.entrant.name: entry for entry in entries}, time.perf_counter() + left_s
    while in_doubt := [one for one in doubt(list(playing.values())) if len(one.more) < len(arena.deals)]:
        entry = min(in_doubt, key=lambda one: len(one.more))
        if time.perf_counter() + _takes_s(entry, arena) > until:
            arena.at.world.say(f"{entry.entrant.name} is tied; the budget does not pay for another deal")
            break
        arena.at.world.say(f"play-off: {entry.entrant.name} on another deal of the training rows")
        began = time.perf_counter()
        report = _again(entry, arena, notes)
        if report is None:
            break
        name = entry.entrant.name if entry.rung is None else f"{entry.entrant.name}.{entry.rung}"
        more = entry.replace(more=(*entry.more, report))
        playing[entry.entrant.name] = notes.judged(name, more, time.perf_counter() - began)
    return list(playing.values())


def _takes_s(entry: Entry, arena: Arena) -> float:
    """What another deal will take, by what the first one did."""
    return entry.cost.training_s + entry.cost.thousand_s * len(arena.trial_rows) / 1000 + LOADING_S


def _again(entry: Entry, arena: Arena, notes: Notes) -> str | None:
    """The report of the same row, made anew from the next deal; None where its training fails."""
    number = len(entry.more)
    deal = arena.deals[number]
    if entry.run is None:
        return arena.again(entry.entrant, deal)
    there = replace(arena, trial=deal, deals=(), fitted={})
    made = Tuning(there, notes.of_deal(number + 1), [entry.entrant]).as_long_as(entry)
    return made.report if made else None
