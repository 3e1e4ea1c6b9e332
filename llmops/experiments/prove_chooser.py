"""Proof of the chooser and the forecaster, on tournaments and learning curves whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from llmops.core.choice import Cost
from llmops.core.proof import CheckResult, Size, caught
from llmops.experiments.choose import Rival, behind, choose, not_worse, rows_needed
from llmops.experiments.forecast import Curve, band, expected, laws, outlook
from llmops.store.workspace import Workspace

TOURNAMENTS = {"ci": 200, "soak": 2000}
LARGE = {"ci": 40, "soak": 1000}  # on thousands of rows of data
CURVES = {"ci": 200, "soak": 2000}
MARGIN = 0.01
RIVALS = 8
RIGHT = 0.85  # of the rows of data, by a row of the tournament that is as good as the best
CHANGED = 0.03  # of them, by each row: two rows differ on twice as many
LAWS = ((1.0, 0.5, 0.95), (0.6, 0.3, 0.95), (2.0, 0.8, 0.9), (0.8, 0.25, 1.0), (0.0, 1.0, 0.7))  # scale, power, ceiling

Picker = Callable[[Sequence[Rival]], str]


def checks(size: Size, at: Workspace) -> Iterator[CheckResult]:
    """The chooser, the chooser with a fault, the forecaster, and the forecaster with a fault."""
    yield tied(size)
    yield much_worse(size)
    yield caught("a pick by the plain maximum", int(not tied(size, plain_maximum).passed), 1)
    yield tied(size, by_rule, dealt)
    yield caught("deals pooled without pairing", int(not tied(size, pooled, dealt).passed), 1)
    yield unnoticed(size)
    yield caught("a pick by plain seconds", int(not unnoticed(size, plain_seconds).passed), 1)
    yield covers(size)
    yield caught("a band without the luck of a draw", int(not covers(size, without_luck).passed), 1)
    yield no_law(size)


def by_rule(rivals: Sequence[Rival]) -> str:
    """The pick of the rule."""
    return choose(rivals, MARGIN, answers=10_000).pick


def plain_maximum(rivals: Sequence[Rival]) -> str:
    """The planted fault: whoever scored highest."""
    return max(rivals, key=lambda rival: float(rival.marks_N.mean())).name


def plain_seconds(rivals: Sequence[Rival]) -> str:
    """The planted fault: the cheapest that is not worse, be it by microseconds."""
    able = [rival for rival, gap in zip(rivals, behind(rivals), strict=True) if not_worse(gap, MARGIN)]
    return min(able, key=lambda rival: rival.cost.total_s(10_000)).name


def pooled(rivals: Sequence[Rival]) -> str:
    """The planted fault: a row that was not tried on a deal counts as it was on average elsewhere."""
    filled = [
        replace(one, marks_N=np.where(np.isnan(one.marks_N), np.nanmean(one.marks_N), one.marks_N)) for one in rivals
    ]
    return by_rule(filled)


def dealt(rivals: Sequence[Rival]) -> Sequence[Rival]:
    """Only the two cheapest are tried on all three deals; in the later two a third of what was right is not."""
    later_N = np.arange(len(rivals[0].marks_N)) >= 200
    hard_N = np.where(later_N & (np.arange(len(later_N)) % 3 == 0), 0.0, 1.0)
    unseen_N = np.where(later_N, np.nan, 1.0)
    return [replace(one, marks_N=one.marks_N * (hard_N if place < 2 else unseen_N)) for place, one in enumerate(rivals)]


def as_they_are(rivals: Sequence[Rival]) -> Sequence[Rival]:
    """Everybody tried on every row of data."""
    return rivals


def tied(
    size: Size, picker: Picker = by_rule, deal: Callable[[Sequence[Rival]], Sequence[Rival]] = as_they_are
) -> CheckResult:
    """A cheap row that is as good as the best is picked, whatever the number of rows of data."""
    chance, number = np.random.default_rng(1), TOURNAMENTS[size]
    found = sum(picker(deal(tournament(chance, 600, cheapest_behind=0.0))) == "cheap" for _ in range(number))
    return CheckResult(
        name="a tied cheaper row is picked" + (", in deals" if deal is dealt else ""),
        found=found,
        of=number,
        goal="at least 95 %",
        passed=found >= 0.95 * number,
        note=f"{found / number:.1%} of tournaments of {RIVALS} rows on 600 rows of data",
    )


def much_worse(size: Size) -> CheckResult:
    """A cheap row that is worse by two margins is not picked, where there are the rows of data that this takes."""
    chance, number = np.random.default_rng(2), LARGE[size]
    n = rows_needed(2 * MARGIN, 2 * CHANGED + 2 * MARGIN, RIVALS)
    wrong = sum(by_rule(tournament(chance, n, 2 * MARGIN)) == "cheap" for _ in range(number))
    return caught("a row worse by two margins", number - wrong, number, note=f"on {n:,} rows of data")


def unnoticed(size: Size, picker: Picker = by_rule) -> CheckResult:
    """Of two rows that both cost next to nothing, the one that is two points better is picked, surely so or not."""
    chance, number = np.random.default_rng(5), TOURNAMENTS[size]
    found = 0
    for _ in range(number):
        constant, linear, *dear = tournament(chance, 600, 2 * MARGIN)
        nothing = Cost(training_s=0.001, thousand_s=0.0, latency_s=0.0, memory_bytes=100)
        little = Cost(training_s=0.5, thousand_s=0.25, latency_s=0.001, memory_bytes=10_000_000)
        rivals = [replace(constant, cost=nothing), replace(linear, cost=little), *dear]
        found += picker(rivals) == linear.name
    return CheckResult(
        name="a cost that nobody would notice is no reason",
        found=found,
        of=number,
        goal="at least 90 %",
        passed=found >= 0.9 * number,
        note=f"the better of two cheap rows in {found / number:.1%} of tournaments",
    )


def tournament(chance: np.random.Generator, n: int, cheapest_behind: float) -> list[Rival]:
    """Rows of a tournament: one cheap, the others dearer; two of these are as good as the best, the rest fall off."""
    base_N = chance.random(n) < RIGHT
    gaps = [cheapest_behind, 0.0, 0.0, 0.0, *np.linspace(0.02, 0.3, RIVALS - 4)]
    rivals = []
    for place, gap in enumerate(gaps):
        lost_N = base_N & (chance.random(n) < (CHANGED / 2 + gap) / RIGHT)
        won_N = ~base_N & (chance.random(n) < CHANGED / 2 / (1 - RIGHT))
        cost = Cost(training_s=1.0 + 50 * place, thousand_s=0.1 + place, latency_s=0.01, memory_bytes=1000)
        name = "cheap" if place == 0 else f"row {place}"
        rivals.append(Rival(name, ((base_N & ~lost_N) | won_N).astype(float), cost))
    return rivals


def covers(size: Size, foretell: Callable[[Curve, int], tuple[float, float]] | None = None) -> CheckResult:
    """The 90 % band holds the score of one model learned from twice the rows, for curves that follow a law."""
    chance, number = np.random.default_rng(3), CURVES[size]
    foretell = foretell or (lambda curve, rows: expected(curve, rows, 1.0)[1:])
    found = 0
    for place in range(number):
        curve, seen = learning(chance, *LAWS[place % len(LAWS)])
        low, high = foretell(curve, 2 * int(curve.sizes_S[-1]))
        found += low <= seen <= high
    # Of 200 curves the share itself wavers by 4 points.
    reach = 0.03 + 1.96 * (0.9 * 0.1 / number) ** 0.5
    return CheckResult(
        name="the band of a forecast",
        found=found,
        of=number,
        goal="90 % within 3 points, and the noise of so many curves",
        passed=abs(found / number - 0.9) <= reach,
        note=f"holds {found / number:.1%} of the scores that were hidden",
    )


def without_luck(curve: Curve, rows: int) -> tuple[float, float]:
    """The planted fault: the band of the law alone, as if one model were the mean of all."""
    point, many, _ = laws(curve, 1.0, rows_too=False)
    return band(float(point.at(rows)[0]), many.at(rows), curve.marks_SJN.shape[1])


def no_law(size: Size) -> CheckResult:
    """Where more rows change nothing, the forecast says that it cannot tell."""
    chance, number = np.random.default_rng(4), CURVES[size] // 2
    told = sum(
        outlook("", learning(chance, 0.0, 1.0, 0.7)[0], 500, 1.0).verdict == "cannot tell" for _ in range(number)
    )
    return CheckResult(
        name="no law, no forecast",
        found=told,
        of=number,
        goal='at least 90 % "cannot tell"',
        passed=told >= 0.9 * number,
        note=f'{told / number:.1%} "cannot tell"',
    )


def learning(chance: np.random.Generator, scale: float, power: float, ceiling: float) -> tuple[Curve, float]:
    """A curve from nested subsets of 600 rows, five draws a size, and the score of one model learned from 1,200.

    A model's level follows the law; the rows that it learned from bring luck, and so do the 600 rows that judge.
    """
    pool, draws, heldout = 1200, 5, 600
    luck_M, hard_N = chance.normal(0, 0.12, pool), chance.random(heldout)

    def model(learned: np.ndarray) -> np.ndarray:
        level = ceiling - scale * len(learned) ** -power + luck_M[learned].mean()
        return np.asarray(hard_N + chance.normal(0, 0.08, heldout) < level, dtype=float)

    half = pool // 2
    sizes = [half >> step for step in range(4, 0, -1)]
    orders = [chance.permutation(half) for _ in range(draws)]
    marks = [[model(order[:size]) for order in orders] for size in sizes]
    marks.append([model(np.arange(half))] * draws)
    return Curve(np.array([*sizes, half]), np.array(marks)), float(model(np.arange(pool)).mean())
