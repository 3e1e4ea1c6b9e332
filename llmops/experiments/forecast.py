"""Would more data help? A power law through a learning curve, and a band for what the next rows would add.

score(n) = ceiling - scale * (n + shift) ** -power. With shift 0 it is the law that learning curves follow once there
are rows enough; with few rows a curve is flat at the commonest answer first (Hestness et al. 2017, arXiv:1712.00409,
the "small data region"), and a shift lets it begin so. The curve comes from nested subsets of the training rows, drawn
several times. Axes: S sizes, J draws, N held-out rows, B resamples, P powers tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from llmops.core.choice import Outlook, Point
from llmops.core.dataset import Row
from llmops.core.errors import RequestError
from llmops.core.value import digest

RESAMPLES = 600
SEED = 20261126
BAND = (0.05, 0.95)
POWERS = np.linspace(0.1, 1.5, 36)
SHIFTS = (0.0, 0.25, 1.0, 4.0)  # times the largest size
GRANTED = 6.0
A_PARAMETER = 2.0  # what one more must save in squared standard errors (Akaike 1974)
FEWEST_SIZES = 4
SMALLEST = 24  # rows: below that a classifier is luck


@dataclass(frozen=True)
class Curve:
    """Marks (more is better) of models learned from `sizes_S` rows: for each size one mark a draw and held-out row."""

    sizes_S: np.ndarray
    marks_SJN: np.ndarray

    def __post_init__(self) -> None:
        if len(self.sizes_S) < FEWEST_SIZES or self.marks_SJN.shape[1] < 2:
            raise RequestError(
                f"a curve of {len(self.sizes_S)} sizes and {self.marks_SJN.shape[1]} draws cannot be gone on with",
                f"give at least {2 * SMALLEST} training rows",
            )


@dataclass(frozen=True)
class Law:
    """The law as fitted, once or B times: each number has shape B."""

    ceiling_B: np.ndarray
    scale_B: np.ndarray
    power_B: np.ndarray
    shift_B: np.ndarray
    misfit_B: np.ndarray  # sum of squared standard errors that the law leaves

    def at(self, rows: float) -> np.ndarray:
        """The score with so many rows, B."""
        return np.asarray(self.ceiling_B - self.scale_B * (rows + self.shift_B) ** -self.power_B)


def sizes(rows: int) -> tuple[int, ...]:
    """Sizes to learn from, up to all rows: each half of the next, or closer together where there are few rows."""
    steps = max(FEWEST_SIZES, min(5, int(np.log2(max(1.0, rows / SMALLEST)))))
    ratio = min(2.0, (rows / SMALLEST) ** (1 / steps))
    return tuple(sorted({round(rows / ratio**step) for step in range(steps + 1)})) if ratio > 1.2 else (rows,)


def nested(rows: Sequence[Row], number: int, draw: int) -> list[Row]:
    """`number` of the rows, by the hash of draw and id: a smaller subset of a draw lies within the larger one.

    Every label is met as often as in all rows, as near as whole rows allow.
    """
    groups: dict[str | None, list[Row]] = {}
    for row in sorted(rows, key=lambda row: digest(["draw", draw, row.id])):
        groups.setdefault(row.label, []).append(row)
    places = {row.id: (place + 0.5) / len(group) for group in groups.values() for place, row in enumerate(group)}
    return sorted(rows, key=lambda row: (places[row.id], row.id))[:number]


def fit(sizes_S: np.ndarray, scores_BS: np.ndarray, weights_S: np.ndarray, most: float) -> Law:
    """The law of least weighted squares for each of B curves, its ceiling at most `most`; weights are 1 / variance.

    A shift is taken where it pays for the parameter that it is.
    """
    found = _fit(sizes_S, scores_BS, weights_S, most, 0.0)
    for share in SHIFTS[1:]:
        other = _fit(sizes_S, scores_BS, weights_S, most, share * float(sizes_S[-1]))
        better_B = other.misfit_B + A_PARAMETER < found.misfit_B + A_PARAMETER * (found.shift_B > 0)
        pairs = zip(vars(found).values(), vars(other).values(), strict=True)
        found = Law(*(np.where(better_B, new, old) for old, new in pairs))
    return found


def _fit(sizes_S: np.ndarray, scores_BS: np.ndarray, weights_S: np.ndarray, most: float, shift: float) -> Law:
    """The same with a given shift. For each power the rest is linear and has a closed form, so all powers are tried."""
    x_PS = (sizes_S[None, :] + shift) ** -POWERS[:, None]
    w_S = weights_S / weights_S.sum()
    mean_P, mean_B = x_PS @ w_S, scores_BS @ w_S
    from_mean_PS, y_BS = x_PS - mean_P[:, None], scores_BS - mean_B[:, None]
    scale_BP = -(y_BS @ (from_mean_PS * w_S).T) / ((from_mean_PS**2) @ w_S)
    ceiling_BP = mean_B[:, None] + scale_BP * mean_P
    # Where the ceiling is too high: the best scale under a ceiling of `most`.
    bound_BP = ((most - scores_BS) @ (x_PS * w_S).T) / ((x_PS**2) @ w_S)
    above_BP = ceiling_BP > most
    scale_BP, ceiling_BP = np.where(above_BP, bound_BP, scale_BP), np.where(above_BP, most, ceiling_BP)
    wrong_BPS = scores_BS[:, None, :] - ceiling_BP[..., None] + scale_BP[..., None] * x_PS
    misfit_BP = wrong_BPS**2 @ weights_S
    best_B, rows = misfit_BP.argmin(axis=1), np.arange(len(scores_BS))
    parts = (ceiling_BP[rows, best_B], scale_BP[rows, best_B], POWERS[best_B])
    return Law(*parts, np.full(len(rows), shift), misfit_BP[rows, best_B])


def laws(curve: Curve, most: float, rows_too: bool = True) -> tuple[Law, Law, np.ndarray]:
    """(the law, the law of each resample, the spread of one draw at each size, S).

    Draws are drawn again as whole curves, and held-out rows where `rows_too`.
    """
    size, draws, n = curve.marks_SJN.shape
    scores_SJ = curve.marks_SJN.mean(axis=2)
    spread_S = scores_SJ.std(axis=1, ddof=1)
    weights_S = 1 / (spread_S**2 / draws + (0.25 * spread_S.mean()) ** 2 / draws + 1e-8)
    picks_BJ = _shares(draws)
    if rows_too:
        means_SJB = (curve.marks_SJN.reshape(-1, n) @ _shares(n).T).reshape(size, draws, RESAMPLES)
        scores_BS = np.einsum("sjb,bj->bs", means_SJB, picks_BJ)
    else:
        scores_BS = picks_BJ @ scores_SJ.T
    point = fit(curve.sizes_S, scores_SJ.mean(axis=1)[None, :], weights_S, most)
    return point, fit(curve.sizes_S, scores_BS, weights_S, most), spread_S


@lru_cache(maxsize=4)
def _shares(n: int) -> np.ndarray:
    """The share of each of `n` things in each resample of them, Bn."""
    counts_Bn: np.ndarray = np.random.default_rng(SEED + n).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    return counts_Bn / n


def band(point: float, found_B: np.ndarray, draws: int) -> tuple[float, float]:
    """The middle 90 % of resampled numbers, widened because J draws drawn again show (J - 1) / J of their variance."""
    wider = (draws / (draws - 1)) ** 0.5
    low, high = np.quantile(found_B, BAND)
    return point + wider * (float(low) - point), point + wider * (float(high) - point)


def outlook(name: str, curve: Curve, more: int, most: float, sign: float = 1.0) -> Outlook:
    """What `more` rows would add to the largest size. `sign` -1 turns marks that were turned back again."""
    point, many, _ = laws(curve, most)
    now = float(curve.sizes_S[-1])
    gain = float((point.at(now + more) - point.at(now))[0])
    low, high = band(gain, many.at(now + more) - many.at(now), curve.marks_SJN.shape[1])
    means_S = curve.marks_SJN.mean(axis=(1, 2))
    points = tuple(
        Point(rows=int(size), score=sign * float(mean), draws=curve.marks_SJN.shape[1])
        for size, mean in zip(curve.sizes_S, means_S, strict=True)
    )
    return Outlook(
        row=name,
        points=points,
        ceiling=sign * float(point.ceiling_B[0]),
        scale=sign * float(point.scale_B[0]),
        power=float(point.power_B[0]),
        shift=float(point.shift_B[0]),
        gain=gain,
        low=low,
        high=high,
    )


def expected(curve: Curve, rows: int, most: float) -> tuple[float, float, float]:
    """(value, low, high) of the mark that one model learned from `rows` rows would get on the same held-out rows."""
    from scipy.stats import t

    point, many, spread_S = laws(curve, most, rows_too=False)
    value, draws = float(point.at(rows)[0]), curve.marks_SJN.shape[1]
    low, high = band(value, many.at(rows), draws)
    # The luck of one draw, from the two sizes below the largest (of which there is one draw only). Subsets of n out of
    # M rows overlap, and show 1 - n / M of their variance.
    shown_S = 1 - curve.sizes_S[-3:-1] / curve.sizes_S[-1]
    wider = misfit(point, len(curve.sizes_S))
    luck = wider * float(t.ppf(BAND[1], 2 * (draws - 1)) * np.sqrt((spread_S[-3:-1] ** 2 / shown_S).mean()))
    below, above = np.hypot(wider * (value - low), luck), np.hypot(wider * (high - value), luck)
    return value, value - float(below), min(most, value + float(above))


def misfit(law: Law, sizes: int) -> float:
    """How much wider a band has to be because the law misses the points by more than their errors (Birge 1932).

    Half a dozen points that fit are taken for granted, so that chance among few sizes does not widen it.
    """
    free = max(0, sizes - 3 - int(law.shift_B[0] > 0))
    return float(np.sqrt(max(1.0, (law.misfit_B[0] + GRANTED) / (free + GRANTED))))


Learn = Callable[[Sequence[Row]], np.ndarray]


def measure(rows: Sequence[Row], numbers: Sequence[int], draws: int, learn: Learn) -> Curve:
    """The curve of one kind of row: `learn` gives the marks, N, of a model learned from some of the rows.

    Of all rows there is one draw only, and it counts as all of them.
    """
    marks = []
    for number in numbers:
        several = draws if number < len(rows) else 1
        found = [learn(nested(rows, number, draw)) for draw in range(several)]
        marks.append(found * (draws // several))
    return Curve(np.array(numbers), np.array(marks))
