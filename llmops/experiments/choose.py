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
    """What the rule sees of a row: its mark on each row of data (more is better; nan: not tried), and what it costs."""

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
    Two rows are compared on the rows of data that both were tried on.
    """
    pairs = _Pairs(np.array([rival.marks_N for rival in rivals], dtype=np.float64))
    rows = []
    for place in range(len(rivals)):
        found = [pairs.of(place, other) for other in range(len(rivals)) if other != place]
        lead_O, spread_O = (np.array([one[part] for one in found]) for part in (0, 1))
        worst, moves_O = float(max([0.0, *lead_O])), spread_O > 0
        if not moves_O.any():
            rows.append(Behind(estimate=worst, at_least=worst, at_most=worst, tied=worst <= 0))
            continue
        moved_RO = np.column_stack([one[2] for one in found])[:, moves_O] / spread_O[moves_O]
        up, down = (float(np.quantile((sign * moved_RO).max(axis=1), LEVEL)) for sign in (1, -1))
        at_least = max(0.0, float((lead_O - up * spread_O)[moves_O].max()))
        at_most = max(0.0, float((lead_O + down * spread_O)[moves_O].max()))
        rows.append(Behind(estimate=worst, at_least=at_least, at_most=at_most, tied=at_least <= 0))
    return rows


class _Pairs:
    """How two rows differ on the rows of data that both have marks on."""

    def __init__(self, marks_EN: np.ndarray) -> None:
        self.there_EN = ~np.isnan(marks_EN)
        self.marks_EN = np.where(self.there_EN, marks_EN, 0.0)
        self._drawn: dict[bytes, np.ndarray] = {}

    def of(self, place: int, other: int) -> tuple[float, float, np.ndarray]:
        """(mean lead of `other`, its standard error, what each resample adds to the lead, R).

        Raises `RequestError` where fewer than two rows of data have both.
        """
        both_N = self.there_EN[place] & self.there_EN[other]
        n = int(both_N.sum())
        if n < 2:
            raise RequestError("one trial row cannot choose", "take more rows")
        lead_N = (self.marks_EN[other] - self.marks_EN[place])[both_N]
        means_RE, lead = self._means(both_N), float(lead_N.mean())
        return lead, float(lead_N.std()) / math.sqrt(n - 1), means_RE[:, other] - means_RE[:, place] - lead

    def _means(self, both_N: np.ndarray) -> np.ndarray:
        """The mean mark of every row on resamples of these rows of data, RE."""
        key = both_N.tobytes()
        if key not in self._drawn:
            counts_RN = _draws(len(both_N))
            counts_RN = counts_RN if both_N.all() else counts_RN[:, both_N]
            drawn_R1 = np.maximum(counts_RN.sum(axis=1, keepdims=True), 1)
            self._drawn[key] = counts_RN @ self.marks_EN[:, both_N].T.astype(np.float32) / drawn_R1
        return self._drawn[key]


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
    limit, n = spell(margin, unit), int((~np.isnan(pick.marks_N) & ~np.isnan(best.marks_N)).sum())
    cheapest, is_ = ("the cheapest", "that is") if pick is least else ("the best of the cheap ones", "that are")
    if pick is not least:
        price += f"; that {least.name} takes less is nothing that anybody would notice"
    if found.at_most <= margin:
        return f"{pick.name} is {cheapest} {is_} not worse by more than {limit}: {gap}. {price}."
    return (
        f"{pick.name} is {cheapest} that cannot be told apart from the best: {gap}. {price}. These "
        f"{n:,} trial rows cannot rule out a loss of more than {limit}."
    )
