"""Proof of the gate and the paired test together: of equal models, how many are promoted?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np

from llmops.core.comparison import Comparison, Difference
from llmops.core.proof import CheckResult, Size, found_out
from llmops.core.report import Subject
from llmops.store.workspace import Workspace

PROMOTIONS = {"ci": 2000, "soak": 10_000}
ROWS, CHANGED = 200, 0.2  # held-out rows, and the share on which two equal models differ
LOOKS = 20
# Given rows, gained and lost ones, gives the difference.
Test = Callable[[int, int, int], Difference]


def checks(size: Size, at: Workspace) -> Iterator[CheckResult]:
    """Equal models before the gate, and the wrong use of its test that must be found out."""
    yield equal(PROMOTIONS[size], looks=1)
    result = equal(PROMOTIONS["ci"], looks=LOOKS)
    yield found_out("a comparison repeated until it is won is found out", {"": result})


def equal(promotions: int, looks: int) -> CheckResult:
    """Two equal models of one kind, compared on rows that come in `looks` parts, and put before the gate each time."""
    from llmops.experiments.tests import mcnemar

    test: Test = lru_cache(maxsize=None)(mcnemar)  # few different counts occur
    chance, promoted = np.random.default_rng(0), 0
    for _ in range(promotions):
        parts = chance.multinomial(ROWS // looks, [CHANGED / 2, CHANGED / 2, 1 - CHANGED], looks).cumsum(axis=0)
        promoted += any(_opens(test(int(sum(part)), int(part[0]), int(part[1]))) for part in parts)
    return CheckResult(
        name="equal models before the gate",
        found=promotions - promoted,
        of=promotions,
        goal="at most 5 % promoted",
        passed=promoted <= 0.05 * promotions,
        note=f"{promoted / promotions:.1%} promoted at {looks} looks",
    )


def _opens(found: Difference) -> bool:
    """Whether the gate lets a challenger of the same kind pass by this difference."""
    from llmops.registry.promote import grounds

    sides = {side: Subject(kind="tuned", ref=side) for side in ("baseline", "challenger")}
    said = {"suite": "su-proof", "metric": "accuracy", "baseline_report": "rp-a", "challenger_report": "rp-b"}
    return grounds(Comparison(**said, **sides, overall=found))[1] is None
