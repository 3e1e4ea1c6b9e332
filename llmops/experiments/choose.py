"""The door: out of measured rows, the cheapest that is not worse than the best.

A row is *not worse* where it is shown to be within the margin of every other one, or where it cannot be told apart from
any of them. Both are judged against all rivals at once: the best of many rows looks better than it is. A cost that
nobody would notice is no reason: of rows that differ by less than a millisecond an answer (what making them took spread
over the answers) and 100 MB, the better one is picked. Axes: E rows of the tournament, N rows of data, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from llmops.core.choice import Behind, Cost, Verdict
from llmops.core.errors import RequestError

RESAMPLES = 2000
SEED = 20261126
LEVEL = 0.95
# What nobody would notice, and the noise of a clock. Without the first the commonest label beats TF-IDF wherever rows
# are too few to tell them apart, for saving 3 s in 10,000 answers. That a base reads a row is noticed: it takes 1 to
# 2 ms on a GPU, 12 to 50 on two cores.
SAME_ANSWER_S = 0.001
SAME_BYTES = 100e6
SAME_SHARE = 0.1


@dataclass(frozen=True)
class Rival:
    """What the rule sees of a row: its mark on each row of data (more is better), and what it costs."""

    name: str
    marks_N: np.ndarray
    cost: Cost


def choose(rivals: Sequence[Rival], margin: float, answers: int, unit: str = "points") -> Verdict:
    """The pick: of all that are not worse, the cheapest to make and to ask `answers` times; with its reason.

    `unit` says how a difference is spelt: "points" of a share, or the measure's own. Raises `RequestError` for none.
    """
    if not rivals:
        raise RequestError("there is no row to choose from", "measure something first")
    found = dict(zip((rival.name for rival in rivals), behind(rivals), strict=True))

    def order(rival: Rival) -> tuple[float, float]:
        return found[rival.name].estimate, rival.cost.total_s(answers)

    best = min(rivals, key=order)
    able = [rival for rival in rivals if not_worse(found[rival.name], margin)] or [best]
    least = min(able, key=lambda rival: rival.cost.total_s(answers))
    pick = min((rival for rival in able if same_cost(rival.cost, least.cost, answers)), key=order)
    if pick is best:
        because = f"{pick.name} is the best on the trial rows, and {_no_cheaper(pick, least, rivals, answers)}."
    else:
        because = _why((pick, best, least), found[pick.name], margin, answers, unit)
    return Verdict(pick=pick.name, best=best.name, margin=margin, because=because)


def same_cost(cost: Cost, least: Cost, answers: int) -> bool:
    """Whether a row costs as good as nothing more than the cheapest: in seconds for so many answers, and in memory."""
    more_s = cost.total_s(answers) - least.total_s(answers)
    unnoticed_s = max(SAME_ANSWER_S * answers, SAME_SHARE * least.total_s(answers))
    return more_s <= unnoticed_s and cost.memory_bytes - least.memory_bytes <= SAME_BYTES


def not_worse(row: Behind, margin: float) -> bool:
    """Whether a row may be picked: within the margin for certain, or not told apart from any other."""
    return row.tied or row.at_most <= margin


def behind(rivals: Sequence[Rival]) -> list[Behind]:
    """How far each row is behind the best of all: multiple comparisons with the best (Hsu 1981, Ann. Statist. 9:1026).

    Of row i the largest studentised deficit over all rivals is compared with what drawing the rows of data again makes
    of it (R resamples, rows drawn together for all), so that the number of rivals and their likeness are allowed for.
    """
    marks_EN = np.array([rival.marks_N for rival in rivals], dtype=np.float64)
    count, n = marks_EN.shape
    if n < 2:
        raise RequestError("one trial row cannot choose", "take more rows")
    means_E = marks_EN.mean(axis=1)
    moved_RE = _draws(n) @ marks_EN.T.astype(np.float32) / n - means_E
    rows = []
    for place in range(count):
        lead_E = means_E - means_E[place]
        spread_E = (marks_EN - marks_EN[place]).std(axis=1) / math.sqrt(n - 1)
        others = [other for other in range(count) if other != place and spread_E[other] > 0]
        if not others:
            worst = float(lead_E.max())
            rows.append(Behind(estimate=worst, at_least=worst, at_most=worst, tied=worst <= 0))
            continue
        moved_RO = (moved_RE[:, others] - moved_RE[:, [place]]) / spread_E[others]
        up, down = (float(np.quantile((sign * moved_RO).max(axis=1), LEVEL)) for sign in (1, -1))
        at_least = max(0.0, float((lead_E[others] - up * spread_E[others]).max()))
        at_most = max(0.0, float((lead_E[others] + down * spread_E[others]).max()))
        rows.append(Behind(estimate=float(lead_E.max()), at_least=at_least, at_most=at_most, tied=at_least <= 0))
    return rows


@lru_cache(maxsize=1)
def _draws(n: int) -> np.ndarray:
    """How often each of `n` rows of data is drawn in each resample, RN."""
    counts_RN: np.ndarray = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    return counts_RN.astype(np.float32)


def rows_needed(deficit: float, disagreement: float, rivals: int) -> int:
    """Trial rows with which a row that is worse by `deficit` is found so in 9,999 of 10,000 tournaments.

    `disagreement` is the share of rows of data on which the two differ. Normal approximation; Bonferroni over rivals.
    """
    from scipy.stats import norm

    reach = norm.ppf(1 - (1 - LEVEL) / max(1, rivals - 1)) + norm.ppf(0.9999)
    return math.ceil(float(reach / deficit) ** 2 * max(disagreement - deficit**2, 0.0))


def spell(number: float, unit: str) -> str:
    """0.0123 is "1.2 points" of a share, and "0.012 ..." of anything else."""
    return f"{100 * number:.1f} points" if unit == "points" else f"{number:.3f} {unit}"


def _no_cheaper(pick: Rival, least: Rival, rivals: Sequence[Rival], answers: int) -> str:
    """Why the best row is not passed over for a cheaper one."""
    if least is not pick:
        return f"{least.name}, which cannot be told apart from it, saves nothing that anybody would notice"
    cheaper = any(rival.cost.total_s(answers) < pick.cost.total_s(answers) for rival in rivals)
    return "every cheaper row is shown to be worse" if cheaper else "none is cheaper"


def _why(rows: tuple[Rival, Rival, Rival], found: Behind, margin: float, answers: int, unit: str) -> str:
    """Why the pick is kept and not the best; `rows` are both, and the cheapest that is not worse."""
    pick, best, least = rows
    costs = [f"{rival.cost.total_s(answers):,.0f} s" for rival in (pick, best)]
    price = f"To make it and to ask it {answers:,} times takes {costs[0]} here, against {costs[1]} for {best.name}"
    gap = f"it is {spell(found.estimate, unit)} behind {best.name}, the best (at most {spell(found.at_most, unit)})"
    limit = spell(margin, unit)
    cheapest, is_ = ("the cheapest", "that is") if pick is least else ("the best of the cheap ones", "that are")
    if pick is not least:
        price += f"; that {least.name} takes less is nothing that anybody would notice"
    if found.at_most <= margin:
        return f"{pick.name} is {cheapest} {is_} not worse by more than {limit}: {gap}. {price}."
    return (
        f"{pick.name} is {cheapest} that cannot be told apart from the best: {gap}. {price}. These "
        f"{len(pick.marks_N):,} trial rows cannot rule out a loss of more than {limit}."
    )
