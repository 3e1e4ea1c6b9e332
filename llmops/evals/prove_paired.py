"""The proof of the paired intervals: of many simulated exams, how many of the printed intervals hold the truth?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from llmops.core.findings import Estimate
from llmops.core.proof import CheckResult, Size, covers
from llmops.evals.paired import changed_share, draws, mean, more_in, share_of
from llmops.store.workspace import Workspace

SIMULATIONS: dict[Size, int] = {"ci": 400, "soak": 2000}  # of what is drawn again; closed forms are tried 2,000 times
CARRIED, MORE = 0.7, 0.15  # the truths
ROWS, GROUPS = 120, 60


def carried(random: np.random.Generator) -> Estimate | None:
    """The share of a gain that holds elsewhere; two rows a group, which hang together."""
    parts = []
    for side, gain in enumerate((1.0, CARRIED)):
        groups = [str(place // 2) for place in range(ROWS)]
        noise_N = np.repeat(random.normal(0, 0.8, GROUPS), 2) + random.normal(0, 0.6, ROWS)
        weights_N = random.integers(20, 80, ROWS).astype(float)
        values_N = gain + noise_N
        parts.append((mean(values_N, weights_N), draws(values_N, weights_N, groups, side)))
    (whole, whole_R), (part, part_R) = parts
    return share_of(part, part_R, whole, whole_R, 2 * ROWS)


def changed(random: np.random.Generator) -> Estimate:
    """The change of a share, paired: a tenth more answers get worse than better."""
    before_N = (random.random(ROWS) < 0.6).astype(float)
    worse_N, better_N = random.random(ROWS) < 0.3, random.random(ROWS) < 0.2
    after_N = np.where(before_N == 1, ~worse_N, better_N).astype(float)
    return changed_share(before_N, after_N)


def more(random: np.random.Generator) -> Estimate:
    """More ones in some rows than in others."""
    names = [str(place) for place in range(ROWS)]
    one_N, other_N = random.random(ROWS) < 0.05 + MORE, random.random(ROWS) < 0.05
    return more_in(one_N.astype(float), other_N.astype(float), (names, names))


# Each kind of interval: how one is drawn, the truth, whether it draws rows again (which takes its time).
KINDS: dict[str, tuple[Callable[[np.random.Generator], Estimate | None], float, bool]] = {
    "interval of the share that carries over": (carried, CARRIED, True),
    "interval of a share that changed": (changed, 0.6 * -0.3 + 0.4 * 0.2, False),
    "interval of a share above another": (more, MORE, False),
}


def checks(size: Size, at: Workspace) -> Iterator[CheckResult]:
    """Each kind of interval."""
    for name, (draw, truth, slow) in KINDS.items():
        random, of = np.random.default_rng(20261126), SIMULATIONS[size] if slow else 2000
        found = [draw(random) for _ in range(of)]
        held = sum(one is not None and one.low <= truth <= one.high for one in found)
        yield covers(name, held, of)
