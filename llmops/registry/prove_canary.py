"""Proof of the canary's test: looked at after every thumb, equal arms are rarely parted, and a worse one is soon gone.

S simulations, N thumbs.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmops.core.canary import Canary, CanaryStarted
from llmops.core.proof import CheckResult, Size, found_out
from llmops.registry.canary import judge

EQUAL = {"ci": 2000, "soak": 10_000}  # simulations
UNEQUAL = {"ci": 200, "soak": 1000}
THUMBS = {"ci": 400, "soak": 2000}
RATES = (0.5, 0.8, 0.95)  # shares of thumbs up that occur
SHARES = (0.1, 0.5)
ALPHA, POWER, ENOUGH = 0.05, 0.8, 600
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
Bools = NDArray[np.bool_]
# Given who answered and what was said, N each: "roll back", "promote" or "cannot tell", at some look.
Judge = Callable[[Bools, Bools], str]


def by_the_test(arms_N: Bools, ups_N: Bools) -> str:
    """What an endpoint does."""
    canary = Canary(name="proof", control=1, challenger=2, share=0.5, alpha=ALPHA)
    event = CanaryStarted(canary=canary, author="proof", at=NOON)
    return judge(event, arms_N.tolist(), ups_N.tolist()).verdict


def peeked(arms_N: Bools, ups_N: Bools) -> str:
    """The planted fault: a test for one look at a fixed number (z of two shares), taken at every one."""
    n_N, m_N = np.cumsum(arms_N), np.cumsum(~arms_N)
    ups, downs = np.cumsum(arms_N & ups_N), np.cumsum(~arms_N & ups_N)
    both = np.maximum(n_N + m_N, 1)
    pooled = (ups + downs) / both
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(pooled * (1 - pooled) * (1 / n_N + 1 / m_N))
        z_N = np.where((n_N >= 10) & (m_N >= 10), (ups / n_N - downs / m_N) / error, 0.0)
    over = np.flatnonzero(np.abs(np.nan_to_num(z_N)) > 1.645)
    if not len(over):
        return "cannot tell"
    return "promote" if z_N[over[0]] > 0 else "roll back"


def equal(size: Size, folder: Path) -> CheckResult:
    """Equal arms, looked at after every thumb: rolled back in at most 5 of 100, promoted in at most 5 of 100."""
    return parted(EQUAL[size], THUMBS[size], by_the_test)


def planted(size: Size, folder: Path) -> CheckResult:
    """The wrong test, put through the check of the right one."""
    result = parted(EQUAL["ci"] // 4, THUMBS["ci"], peeked)
    return found_out("a test for one look, taken at every thumb, is found out", {"": result})


def worse(size: Size, folder: Path) -> CheckResult:
    """A challenger that people like in 60 of 100 answers instead of 80 is rolled back within 600 thumbs."""
    chance = np.random.default_rng(1)
    verdicts = [by_the_test(*_thumbs(chance, ENOUGH, 0.5, 0.8, 0.6)) for _ in range(UNEQUAL[size])]
    gone, kept = verdicts.count("roll back"), verdicts.count("promote")
    return CheckResult(
        name="a worse challenger is rolled back",
        found=gone,
        of=len(verdicts),
        goal=f"at least {POWER:.0%} within {ENOUGH} thumbs (0.6 against 0.8, half of the traffic), 1 % promoted",
        passed=gone >= POWER * len(verdicts) and kept <= 0.01 * len(verdicts),
        note=f"{gone / len(verdicts):.1%} rolled back, {kept / len(verdicts):.1%} promoted",
    )


def parted(simulations: int, thumbs: int, test: Judge) -> CheckResult:
    """How often a test parts equal arms, over several shares of thumbs up and of traffic."""
    chance = np.random.default_rng(0)
    back = up = 0
    for number in range(simulations):
        rate = RATES[number % len(RATES)]
        verdict = test(*_thumbs(chance, thumbs, SHARES[number % len(SHARES)], rate, rate))
        back += verdict == "roll back"
        up += verdict == "promote"
    return CheckResult(
        name="equal arms, looked at after every thumb",
        found=simulations - back - up,
        of=simulations,
        goal="at most 5 % rolled back, at most 5 % promoted, over all looks",
        passed=max(back, up) <= ALPHA * simulations,
        note=f"{back / simulations:.1%} rolled back, {up / simulations:.1%} promoted within {thumbs} looks",
    )


def _thumbs(
    chance: np.random.Generator, thumbs: int, share: float, control: float, challenger: float
) -> tuple[Bools, Bools]:
    """(answered by the challenger?, up?), N each."""
    arms_N = chance.random(thumbs) < share
    return arms_N, chance.random(thumbs) < np.where(arms_N, challenger, control)
