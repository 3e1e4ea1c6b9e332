"""`calibrate` and `abstain`: reliability, one temperature, and a threshold that keeps what it promises.

N rows, K labels, B bins, T candidate errors, R draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmops.core.calibration import Abstention, Apart, Calibration, ReliabilityBin
from llmops.core.errors import RequestError
from llmops.core.findings import Estimate
from llmops.core.report import Answer, EvalReport
from llmops.core.value import digest
from llmops.evals.intervals import RESAMPLES, SEED, design_effect, wilson, wilson_clustered
from llmops.evals.paired import weighed

FOLDS = 5
ABSTAINING_FOLDS = 20  # of 382 sources, four fifths cannot promise the 5 % that all of them just can
MOST_BINS, ROWS_A_BIN = 10, 30
FEWEST_ROWS = 2 * ROWS_A_BIN
FEWEST_SOURCES = 10  # of 2, drawn again, an interval is a point; of 1, nothing is left to fit on
SMALLEST = 1e-12  # a probability that underflowed
TEMPERATURES = (0.05, 20.0)
CONFIDENCE = 0.95
COVERAGES = tuple(share / 20 for share in range(1, 21))


def calibrate(report: EvalReport) -> Calibration:
    """The reliability of a report's probabilities, and the temperature that mends them.

    Raises `RequestError` where the report has no probabilities of labels, or too few rows to fit and judge.
    """
    answers, chances_NK, truth_N = _chances(report)
    if few := too_few(report):
        what = f"{few} cannot tell how reliable a model is"
        raise RequestError(what, f"hold out at least {FEWEST_ROWS} rows, of at least {FEWEST_SOURCES} sources")
    groups = [answer.group or answer.row for answer in answers]
    fold_N = _folds(groups)
    after_NK = np.empty_like(chances_NK)
    for fold in np.unique(fold_N):
        others_N = fold_N != fold
        after_NK[~others_N] = tempered(chances_NK[~others_N], temperature_of(chances_NK[others_N], truth_N[others_N]))
    sides = [_said_and_right(part_NK, truth_N) for part_NK in (chances_NK, after_NK)]
    (before, chance), (after, _) = (calibration_error(*side, groups) for side in sides)
    nats_N, tempered_N = (_nats(part_NK, truth_N) for part_NK in (chances_NK, after_NK))
    fitted = round(temperature_of(chances_NK, truth_N), 4)
    return Calibration(
        report=report.id,
        n=len(answers),
        temperature=fitted if tempered_N.mean() < nats_N.mean() else 1.0,
        fitted=fitted,
        error_before=before,
        error_after=after,
        error_by_chance=round(chance, 5),
        nats_before=float(nats_N.mean()),
        nats_after=float(tempered_N.mean()),
        nats_change=weighed(tempered_N - nats_N, np.ones(len(nats_N)), groups),
        before=reliability(*sides[0]),
        after=reliability(*sides[1]),
    )


def too_few(report: EvalReport) -> str | None:
    """How few rows, or sources of rows, have probabilities; None where they are enough to calibrate by."""
    groups = [answer.group or answer.row for answer in report.answers if answer.chances]
    if len(groups) < FEWEST_ROWS:
        return f"{len(groups)} rows"
    sources = len(set(groups))
    return f"rows of {sources} {'sources' if sources > 1 else 'source'}" if sources < FEWEST_SOURCES else None


def _folds(groups: Sequence[str], number: int = FOLDS) -> np.ndarray:
    """The fold of each row, by the hash of its source, so that no source lies in two."""
    return np.array([int(digest(group)[:8], 16) % number for group in groups])


def _chances(report: EvalReport) -> tuple[list[Answer], np.ndarray, np.ndarray]:
    """(answers that have probabilities, these NK, the place of the right label N)."""
    answers = [answer for answer in report.answers if answer.chances]
    if not answers:
        raise RequestError(
            f"report {report.id} holds no probabilities of labels",
            "evaluate a model that picks labels, anew if need be",
        )
    labels = list(answers[0].chances)
    chances_NK = np.array([[answer.chances[label] for label in labels] for answer in answers])
    return answers, chances_NK, np.array([labels.index(answer.expected) for answer in answers])


def tempered(chances_NK: np.ndarray, temperature: float) -> np.ndarray:
    """Each probability to the power 1 / temperature, normalised: above 1 less sure, below 1 surer; same winner."""
    logs_NK = np.log(np.maximum(chances_NK, SMALLEST)) / temperature
    raised_NK = np.exp(logs_NK - logs_NK.max(axis=1, keepdims=True))
    made_NK: np.ndarray = raised_NK / raised_NK.sum(axis=1, keepdims=True)
    return made_NK


def temperature_of(chances_NK: np.ndarray, truth_N: np.ndarray) -> float:
    """The temperature of the least log loss (Guo et al. 2017, arXiv:1706.04599): one number, a convex problem.

    Each row gives 1 / (N + 2) of its weight to the wrong labels, as Platt's targets do (1999): where all rows are
    right, the plain loss would make every answer certain.
    """
    from scipy.optimize import minimize_scalar

    n, labels = chances_NK.shape
    doubt = 1 / (n + 2)
    targets_NK = np.full((n, labels), doubt / (labels - 1))
    targets_NK[np.arange(n), truth_N] = 1 - doubt

    def loss(sharpness: float) -> float:
        return float(-(targets_NK * np.log(np.maximum(tempered(chances_NK, 1 / sharpness), SMALLEST))).sum())

    low, high = TEMPERATURES
    return float(1 / minimize_scalar(loss, bounds=(1 / high, 1 / low), method="bounded").x)


def _nats(chances_NK: np.ndarray, truth_N: np.ndarray) -> np.ndarray:
    """The log loss of each row."""
    nats_N: np.ndarray = -np.log(np.maximum(chances_NK[np.arange(len(truth_N)), truth_N], SMALLEST))
    return nats_N


def _said_and_right(chances_NK: np.ndarray, truth_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the probability of the answer, whether it is right) of each row."""
    return chances_NK.max(axis=1), (chances_NK.argmax(axis=1) == truth_N).astype(float)


def _bins(said_N: np.ndarray) -> list[np.ndarray]:
    """Places of the rows of each bin: as many rows in each, by what was said."""
    number = max(1, min(MOST_BINS, len(said_N) // ROWS_A_BIN))
    return [part for part in np.array_split(np.argsort(said_N, kind="stable"), number) if len(part)]


def reliability(said_N: np.ndarray, right_N: np.ndarray) -> tuple[ReliabilityBin, ...]:
    """What was said against what was right, bin by bin, the least sure first."""
    made = []
    for places in _bins(said_N):
        low, high = wilson(float(right_N[places].sum()), len(places))
        means = {"said": float(said_N[places].mean()), "right": float(right_N[places].mean())}
        made.append(ReliabilityBin(**means, low=low, high=high, n=len(places)))
    return tuple(made)


def calibration_error(said_N: np.ndarray, right_N: np.ndarray, groups: Sequence[str]) -> tuple[Estimate, float]:
    """(the expected calibration error over bins of equal mass, with its 95 % interval; its median were there none).

    The mean of |said - right| is never 0 on finite rows, so drawing rows again never reaches a model that is
    calibrated: such intervals held the truth in 0 of 400 simulations. So the interval is every error under which the
    one observed lies within the middle 95 % of what bins with these standard errors would show. How that error is
    spread over the bins is not known: the three guesses of `_spreads` are tried, and the widest ends count.

    One observed below that median was lucky, and would have a short interval that it does not deserve (on 600 real
    rows 0.018 had 0.000 to 0.009). It counts as the median: a power-constrained limit (Cowan et al. 2011,
    arXiv:1105.3166), which covers no less.
    """
    bins = _bins(said_N)
    mass_B = np.array([len(places) for places in bins]) / len(said_N)
    gap_B = np.array([float((said_N[places] - right_N[places]).mean()) for places in bins])
    # Of a bin without a mistake the spread is not 0, so a right and a wrong row are added.
    share_B = np.array([(right_N[places].sum() + 1) / (len(places) + 2) for places in bins])
    size_B = mass_B * len(said_N) / design_effect(list(said_N - right_N), [1.0] * len(said_N), groups)
    error_B = (share_B * (1 - share_B) / size_B) ** 0.5
    value = float((mass_B * np.abs(gap_B)).sum())
    chance = float(np.median(np.abs(_noise(error_B)) @ mass_B))
    counted = max(value, chance)
    ends = [_held(counted, mass_B, error_B, spread_B) for spread_B in _spreads(gap_B, error_B)]
    low, high = min(value, *(low for low, _ in ends)), max(value, *(high for _, high in ends))
    return Estimate(value=round(value, 5), low=round(low, 5), high=round(high, 5), n=len(said_N)), chance


def _noise(error_B: np.ndarray) -> np.ndarray:
    """R draws of what chance adds to each bin, RB."""
    noise_RB: np.ndarray = error_B * np.random.default_rng(SEED).standard_normal((RESAMPLES, len(error_B)))
    return noise_RB


def _spreads(gap_B: np.ndarray, error_B: np.ndarray) -> list[np.ndarray]:
    """How an error may lie over the bins: alike in all, as observed, and as observed with the noise taken off."""
    signal_B = np.sqrt(np.maximum(0.0, gap_B**2 - error_B**2))
    return [np.ones_like(gap_B), *(spread_B for spread_B in (np.abs(gap_B), signal_B) if spread_B.any())]


def _held(value: float, mass_B: np.ndarray, error_B: np.ndarray, spread_B: np.ndarray) -> tuple[float, float]:
    """The least and the greatest error, spread so, under which `value` is nothing unusual."""
    noise_RB = _noise(error_B)
    wrong_T = np.linspace(0.0, min(1.0, value + 5 * float((mass_B**2 * error_B**2).sum()) ** 0.5), 61)
    shape_B = spread_B / (mass_B * spread_B).sum()
    seen_TR = np.stack([np.abs(wrong * shape_B + noise_RB) @ mass_B for wrong in wrong_T])
    low_T, high_T = np.quantile(seen_TR, [0.025, 0.975], axis=1)
    held_T = wrong_T[(low_T <= value) & (value <= high_T)]
    return (float(held_T[0]), float(held_T[-1])) if len(held_T) else (min(value, 0.0), value)


def abstain(report: EvalReport, error: float) -> Abstention:
    """The lowest threshold of the model's own probability above which at most the share `error` is wrong.

    Thresholds are tried from the surest rows down, and each must pass before the next is looked at, so that trying
    many costs nothing (fixed-sequence testing: Angelopoulos et al. 2021, "Learn then Test", arXiv:2110.01052): the
    exact binomial chance of so few mistakes, were the share of wrong ones `error`, is at most 5 %. The first
    threshold keeps so many rows that three mistakes would still pass. Rows that share a source are thinned to one of
    each, since the bound counts independent ones. Raises `RequestError` where there are no probabilities.
    """
    from scipy.stats import beta

    if not 0 < error < 1:
        raise RequestError(f"a share of {error:g} wrong answers is no promise", "give a share such as 0.05")
    answers, chances_NK, truth_N = _chances(report)
    said_N, right_N = _said_and_right(chances_NK, truth_N)
    groups = np.array([answer.group or answer.row for answer in answers])
    n, kept = len(_one_of_each(groups)), _kept(said_N, right_N, groups, error)
    if kept is None:
        return Abstention(
            report=report.id, error=error, threshold=None, answered=0.0, wrong=0, n_answered=0, n=n, bound=None
        )
    threshold, answered, wrong = kept
    return Abstention(
        report=report.id,
        error=error,
        threshold=threshold,
        answered=answered / n,
        wrong=wrong,
        n_answered=answered,
        n=n,
        bound=float(beta.ppf(CONFIDENCE, wrong + 1, answered - wrong)),
        apart=_apart(said_N, right_N, groups, error),
    )


def _kept(said_N: np.ndarray, right_N: np.ndarray, groups: np.ndarray, error: float) -> tuple[float, int, int] | None:
    """(the lowest threshold that keeps the promise, rows at or above it, wrong ones among them); None: none does."""
    from scipy.stats import binom

    first_N = _one_of_each(groups)
    said_N, right_N = said_N[first_N], right_N[first_N]
    kept = None
    for share in COVERAGES:
        threshold = float(np.sort(said_N)[::-1][max(1, round(share * len(said_N))) - 1])
        inside_N = said_N >= threshold
        answered, wrong = int(inside_N.sum()), int((1 - right_N[inside_N]).sum())
        if binom.cdf(3, answered, error) > 1 - CONFIDENCE:
            continue  # too few rows to start with
        if binom.cdf(wrong, answered, error) > 1 - CONFIDENCE:
            break
        kept = threshold, answered, wrong
    return kept


def _apart(said_N: np.ndarray, right_N: np.ndarray, groups: np.ndarray, error: float) -> Apart:
    """Each fold answered by the threshold that the other folds choose, if they find one."""
    fold_N, answered_N = _folds(groups.tolist(), ABSTAINING_FOLDS), np.zeros(len(said_N))
    for fold in np.unique(fold_N):
        mine_N = fold_N == fold
        kept = _kept(said_N[~mine_N], right_N[~mine_N], groups[~mine_N], error) if not mine_N.all() else None
        answered_N[mine_N] = 0.0 if kept is None else said_N[mine_N] >= kept[0]
    inside_N = answered_N == 1
    return Apart(
        answered=_share(answered_N, groups),
        wrong=_share(1 - right_N[inside_N], groups[inside_N]) if len(set(groups[inside_N])) > 1 else None,
    )


def _share(marks_N: np.ndarray, groups: np.ndarray) -> Estimate:
    """The share of ones, with its interval."""
    low, high = wilson_clustered(marks_N.tolist(), groups.tolist())
    return Estimate(value=round(float(marks_N.mean()), 5), low=round(low, 5), high=round(high, 5), n=len(marks_N))


def _one_of_each(groups: np.ndarray) -> np.ndarray:
    """Places of the first row of each source."""
    return np.unique(groups, return_index=True)[1]
