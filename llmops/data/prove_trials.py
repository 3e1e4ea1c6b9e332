"""Proof of the rows that a tournament is tried on: they are mixed as the held-out rows are, and groups stay whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from llmops.core.dataset import Message, Row
from llmops.core.proof import CheckResult, Size, caught
from llmops.data.part import FEWEST, _dealt, two_sides
from llmops.data.shares import Shares, apart, differ, shares
from llmops.store.workspace import Workspace

SETS: dict[Size, int] = {"ci": 40, "soak": 1_000}
TRAIN, HELDOUT, SHARE = 600, 300, 0.35
NEAR = 0.05  # what rounding and whole groups may leave
Deal = Callable[[Sequence[Row], Sequence[Row]], tuple[list[Row], list[Row]]]


def checks(size: Size, at: Workspace) -> Iterator[CheckResult]:
    """The rule, and a rule with a fault."""
    yield mixed(size)
    yield caught("trial rows in the mix of the training rows", int(not mixed(size, plain).passed), 1)


def by_rule(rows: Sequence[Row], heldout: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The rule."""
    return two_sides(rows, heldout, SHARE, rated=False)


def plain(rows: Sequence[Row], heldout: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The planted fault: the held-out rows are not looked at."""
    return _dealt(rows, SHARE, rated=False)


def mixed(size: Size, deal: Deal = by_rule) -> CheckResult:
    """Two sources and two labels in mixes drawn at random: another one held out (a fault), or the same (clean)."""
    chance, found, of, alarms = np.random.default_rng(6), 0, 0, 0
    for _ in range(SETS[size]):
        mix, other = some_of_each(chance), some_of_each(chance)
        rows, heldout = made_up(chance, TRAIN, mix), made_up(chance, HELDOUT, other)
        wanted = shares(heldout, rated=False)
        if differ(shares(rows, rated=False), wanted, HELDOUT):
            of += 1
            found += holds(*deal(rows, heldout), wanted)
        same = made_up(chance, HELDOUT, mix)
        alarms += differ(shares(rows, rated=False), shares(same, rated=False), HELDOUT)
    return caught("trial rows in the mix of the held-out rows", found, of, alarms, SETS[size])


def holds(learn: Sequence[Row], trial: Sequence[Row], wanted: Shares) -> bool:
    """Whether the rows to try on have the mix that was wanted, and share no group with those to learn from."""
    met = {row.group for row in learn} & {row.group for row in trial}
    return not met and len(trial) >= FEWEST and apart(shares(trial, rated=False), wanted) <= NEAR


def some_of_each(chance: np.random.Generator) -> np.ndarray:
    """Shares of four kinds, none of them nearly absent: of what is not there nobody can be tried."""
    return np.asarray(0.05 + 0.8 * chance.dirichlet(np.full(4, 1.0)))


def made_up(chance: np.random.Generator, number: int, mix: np.ndarray) -> list[Row]:
    """Rows of two sources and two labels; three in four belong to a group of up to four."""
    rows = []
    for kind in chance.choice(4, size=number, p=mix):
        source, label = ("far", "near")[kind // 2], ("bad", "good")[kind % 2]
        place = f"{chance.integers(1 << 60):x}"
        group = f"{source} {chance.integers(number // 4)}" if chance.random() < 0.75 else place
        messages = (Message(role="user", content=place), Message(role="assistant", content=label))
        rows.append(Row(id=place, messages=messages, text=place, label=label, group=group, source=source, line=1))
    return rows
