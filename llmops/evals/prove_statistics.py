"""Proof of the intervals: of many simulated exams, how many of the printed intervals hold the truth?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from llmops.core.proof import CheckResult, Size
from llmops.evals.intervals import wilson
from llmops.store.workspace import Workspace

SIMULATIONS = 2000


def checks(size: Size, at: Workspace) -> Iterator[CheckResult]:
    """Each kind of interval."""
    yield covers("wilson interval of a share", *_wilson())


def covers(name: str, held: int, of: int) -> CheckResult:
    """The goal of every interval of 95 %: it holds the truth in 93 to 97 of 100 simulations."""
    share = held / of
    return CheckResult(
        name=name,
        found=held,
        of=of,
        goal="the truth inside 93 to 97 % of them",
        passed=0.93 <= share <= 0.97,
        note=f"{100 * share:.1f} %",
    )


def _wilson() -> tuple[int, int]:
    chance, n, truth = np.random.default_rng(1), 400, 0.8
    bounds = [wilson(int(right), n) for right in chance.binomial(n, truth, SIMULATIONS)]
    return sum(low <= truth <= high for low, high in bounds), SIMULATIONS
