"""Proof of the paired tests: equal models are not called better, a difference of the stated size is found, and the
intervals hold the truth. A planted fault is a wrong test, which the same check must find out.

S simulations, N rows, G sources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np

from llmops.core.comparison import Difference, holm
from llmops.core.proof import CheckResult, Size, covers, found_out
from llmops.experiments.power import GOAL, power
from llmops.experiments.tests import bootstrap_differences, clustered, mcnemar
from llmops.store.workspace import Workspace

EQUAL, COVERED, POWERED = 10_000, 2000, 20_000  # simulations
WHOLE = {"ci": 500, "soak": 10_000}  # of whole comparisons
ROWS, GROUPS, ROWS_A_GROUP, SLICES = 200, 40, 5, 20
TOGETHER = 500
quick_mcnemar = lru_cache(maxsize=None)(mcnemar)  # few different counts occur


def checks(size: Size, at: Workspace) -> Iterator[CheckResult]:
    """False "better", power and coverage of each test, and the wrong tests that must be found out."""
    yield equal("equal models by McNemar", *_equal_shares())
    yield equal("equal models by the bootstrap", *_equal_rates(grouped=True, clusters=False))
    yield equal("equal models, rows share sources", *_equal_rates(grouped=True, clusters=True))
    yield equal("equal models by Wilcoxon", *_equal_ranks())
    yield equal("equal models, whole comparisons of shared sources", *_equal_whole(WHOLE[size]))
    yield equal("equal models, any of 20 slices", *_equal_slices(adjust=True))
    yield found("power of McNemar at the stated effect", *_power_of_shares())
    yield found("power of the bootstrap at the stated effect", *_power_of_rates())
    yield covers("interval of a difference of shares", *_cover_shares())
    yield covers("interval of a difference of rates", *_cover_rates(clusters=False, grouped=False))
    yield covers("interval of a difference, rows share sources", *_cover_rates(clusters=True, grouped=True))
    yield planted()


def equal(name: str, better: int, of: int) -> CheckResult:
    """The goal of a test: of equal models at most 5 of 100 are called better."""
    luck = 2 * (0.05 * 0.95 / of) ** 0.5 if of < COVERED else 0.0
    return CheckResult(
        name=name,
        found=of - better,
        of=of,
        goal='at most 5 % of equal models called "better"',
        passed=better / of <= 0.05 + luck,
        note=f'{100 * better / of:.1f} % "better"',
    )


def found(name: str, better: int, of: int) -> CheckResult:
    """The goal of power: a difference of the stated size is found in 80 of 100 cases."""
    return CheckResult(
        name=name,
        found=better,
        of=of,
        goal="found in at least 80 % of them",
        passed=better / of >= GOAL,
        note=f"{100 * better / of:.1f} %",
    )


def planted() -> CheckResult:
    """Wrong tests, each put through the check of the right one."""
    faults = {
        "an unpaired test of paired rows": found("", *_power_of_shares(unpaired)),
        "rows of shared sources taken for independent": equal("", *_equal_rates(clusters=True, grouped=False)),
        "an interval that knows no sources": covers("", *_cover_rates(clusters=True, grouped=False)),
        "20 slices without Holm": equal("", *_equal_slices(adjust=False)),
    }
    return found_out("wrong tests are found out", faults)


def unpaired(n: int, gained: int, lost: int, right: int = ROWS // 2) -> Difference:
    """The planted fault: two shares of n rows each, as if other rows had been asked; `right` both have right."""
    shares = (right + lost) / n, (right + gained) / n
    delta, error = shares[1] - shares[0], sum(share * (1 - share) / n for share in shares) ** 0.5
    return Difference(delta=delta, low=delta - 1.96 * error, high=delta + 1.96 * error, p=1.0, n=n, test="mcnemar")


def _verdicts(test: Callable[[int, int, int], Difference], n: int, counts: np.ndarray) -> int:
    """How many of the (gained, lost) counts a test calls better."""
    return sum(test(n, int(gained), int(lost)).verdict == "better" for gained, lost in counts[:, :2])


def _equal_shares() -> tuple[int, int]:
    counts = np.random.default_rng(0).multinomial(ROWS, [0.1, 0.1, 0.8], EQUAL)
    return _verdicts(quick_mcnemar, ROWS, counts), EQUAL


def _changes(chance: np.random.Generator, simulations: int, clusters: bool) -> tuple[np.ndarray, np.ndarray]:
    """(changes, weights), G x rows x S: heavy tails; where clustered, a source changes as a whole."""
    shape = (GROUPS, ROWS_A_GROUP, simulations)
    own = chance.normal(0.0, 1.0, (GROUPS, 1, simulations)) if clusters else 0.0
    return own + chance.standard_t(5, shape), chance.integers(5, 80, shape).astype(float)


def _batches(simulations: int) -> Iterator[int]:
    yield from (min(TOGETHER, simulations - start) for start in range(0, simulations, TOGETHER))


def _tested(changes: np.ndarray, weights: np.ndarray, grouped: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(difference, reach, p) of each simulation, by source or by row."""
    weighted = changes * weights
    if grouped:
        return bootstrap_differences(weighted.sum(axis=1), weights.sum(axis=1))
    flat = GROUPS * ROWS_A_GROUP
    return bootstrap_differences(weighted.reshape(flat, -1), weights.reshape(flat, -1))


def _equal_rates(clusters: bool, grouped: bool) -> tuple[int, int]:
    """Without clusters, a source is a single draw of some rows, as good as a row."""
    chance, better = np.random.default_rng(1), 0
    for some in _batches(EQUAL if grouped else COVERED):
        delta_S, _, p_S = _tested(*_changes(chance, some, clusters), grouped)
        better += int(((p_S < 0.05) & (delta_S > 0)).sum())
    return better, EQUAL if grouped else COVERED


def _equal_ranks() -> tuple[int, int]:
    from scipy.stats import wilcoxon

    changes_SN = np.random.default_rng(2).standard_t(3, (EQUAL, 60))
    found_S = wilcoxon(changes_SN, axis=1)
    return int(((found_S.pvalue < 0.05) & (changes_SN.mean(axis=1) > 0)).sum()), EQUAL


def _equal_whole(simulations: int) -> tuple[int, int]:
    """Right or wrong, of shared sources: the comparison as `compare` makes it."""
    chance, better = np.random.default_rng(3), 0
    groups = [str(group) for group in range(GROUPS) for _ in range(ROWS_A_GROUP)]
    for _ in range(simulations):
        lean_N = np.repeat(chance.beta(1.0, 1.0, GROUPS), ROWS_A_GROUP)
        changes_N = (chance.random(len(groups)) < 0.3) * np.where(chance.random(len(groups)) < lean_N, 1.0, -1.0)
        better += clustered(changes_N, np.ones(len(groups)), groups).verdict == "better"
    return better, simulations


def _equal_slices(adjust: bool) -> tuple[int, int]:
    """Equal models in 20 slices of 200 rows: how often is any of them called better?"""
    chance, better = np.random.default_rng(4), 0
    for counts in chance.multinomial(ROWS, [0.1, 0.1, 0.8], (COVERED, SLICES)):
        slices = [quick_mcnemar(ROWS, int(gained), int(lost)) for gained, lost, _ in counts]
        ps = holm({str(place): one.p for place, one in enumerate(slices)}) if adjust else {}
        better += any(
            one.replace(adjusted_p=ps.get(str(place))).verdict == "better"
            for place, one in enumerate(slices)
            if one.p < 0.05
        )
    return better, COVERED


def _power_of_shares(test: Callable[[int, int, int], Difference] = quick_mcnemar) -> tuple[int, int]:
    """The smallest difference that is said before the run, for a share of changed rows as assumed."""
    told = power(ROWS, "accuracy")
    delta, changed = told.smallest or 0.0, told.changed or 0.0
    shares = [(changed + delta) / 2, (changed - delta) / 2, 1 - changed]
    return _verdicts(test, ROWS, np.random.default_rng(5).multinomial(ROWS, shares, POWERED)), POWERED


def _power_of_rates() -> tuple[int, int]:
    told = power(ROWS, "absolute_error")  # in standard deviations of the row-by-row difference
    changes_NS = np.random.default_rng(6).normal(told.smallest or 0.0, 1.0, (ROWS, COVERED))
    better = 0
    for start in range(0, COVERED, TOGETHER):
        part_NS = changes_NS[:, start : start + TOGETHER]
        delta_S, _, p_S = bootstrap_differences(part_NS, np.ones_like(part_NS))
        better += int(((p_S < 0.05) & (delta_S > 0)).sum())
    return better, COVERED


def _cover_shares() -> tuple[int, int]:
    counts = np.random.default_rng(7).multinomial(ROWS, [0.13, 0.07, 0.8], COVERED)
    bounds = [quick_mcnemar(ROWS, int(gained), int(lost)) for gained, lost, _ in counts]
    return sum(one.low <= 0.06 <= one.high for one in bounds), COVERED


def _cover_rates(clusters: bool, grouped: bool) -> tuple[int, int]:
    chance, held = np.random.default_rng(8), 0
    for some in _batches(COVERED):
        changes, weights = _changes(chance, some, clusters)
        delta_S, reach_S, _ = _tested(changes + 0.3, weights, grouped)
        held += int((np.abs(delta_S - 0.3) <= reach_S).sum())
    return held, COVERED
