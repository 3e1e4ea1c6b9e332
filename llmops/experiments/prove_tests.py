"""Proof of the paired tests: equal models are not called better, and a difference of the stated size is found."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from llmops.core.proof import CheckResult, Size
from llmops.experiments.tests import mcnemar
from llmops.store.workspace import Workspace

SIMULATIONS = {"ci": 1000, "soak": 10_000}


def checks(size: Size, at: Workspace) -> Iterator[CheckResult]:
    """Each test, on models that are equal."""
    chance, n = np.random.default_rng(0), SIMULATIONS[size]
    better = 0
    for changed in chance.binomial(200, 0.2, n):
        gained = int(chance.binomial(changed, 0.5))
        better += mcnemar(200, gained, int(changed) - gained).verdict == "better"
    yield CheckResult(
        name="equal models by McNemar",
        found=n - better,
        of=n,
        goal='at most 5 % of equal models called "better"',
        passed=better <= 0.05 * n,
        note=f'{better:,} of {n:,} "better"',
    )
