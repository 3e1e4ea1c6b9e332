"""One step, done to rows in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from llmops.data.mapping import Example, Mapped
from llmops.data.steps.change import Change
from llmops.data.steps.deal import Doing
from llmops.data.steps.signs import Signs, number_of_id
from llmops.data.steps.table import ROW_STEPS, SET_STEPS


def living(rows: Sequence[Mapped]) -> tuple[list[int], list[Example]]:
    """The places of the rows that are not dropped, and those rows."""
    alive = [(place, row) for place, row in enumerate(rows) if isinstance(row, Example)]
    return [place for place, _ in alive], [row for _, row in alive]


def row_changes(step: Doing, rows: Sequence[Mapped], spared: Collection[str]) -> list[Change]:
    """What a row step does to the living rows; one that was brought back is not dropped."""
    places, alive = living(rows)
    found = ROW_STEPS[step.kind](step, alive)
    changes = (change for change in found if not (change.reason and alive[change.at].id in spared))
    return [change._replace(at=places[change.at]) for change in changes]


def set_changes(step: Doing, rows: Sequence[Mapped], spared: Collection[str]) -> list[Change]:
    """What a step that looks at all rows does to the living ones."""
    places, alive = living(rows)
    kind = SET_STEPS[step.kind]
    found = kind.decide(step, Signs([kind.sign(step, alive)]), numbers(spared))
    return [Change(places[at], reason) for at, reason in found]


def changes(step: Doing, rows: Sequence[Mapped], spared: Collection[str]) -> list[Change]:
    """What a step does to the living rows."""
    return (row_changes if step.kind in ROW_STEPS else set_changes)(step, rows, spared)


def numbers(ids: Iterable[str]) -> frozenset[int]:
    """Ids as the numbers that they are."""
    return frozenset(map(number_of_id, ids))
