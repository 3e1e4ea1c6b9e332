"""How much a score owes to held-out rows that the training rows already held. R resamples, n rows of a part."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from llmops.core.findings import Estimate, Inflation
from llmops.core.report import Answer, EvalReport
from llmops.evals.intervals import RESAMPLES, SEED


def inflation(report: EvalReport, touched: Collection[str], against: str) -> Inflation:
    """The main score on the held-out rows in `touched`, on the others, and what the first add to the whole.

    Rows of each part are drawn again, so that a part keeps its size; 95 % intervals.
    """
    metric = report.suite.measures[0]
    marked = [answer for answer in report.answers if metric in answer.marks]
    leaked = [answer for answer in marked if answer.row in touched]
    clean = [answer for answer in marked if answer.row not in touched]
    if not leaked or not clean:
        whole = estimate_of(_draws(metric, marked, SEED)) if marked else None
        return Inflation(
            metric=metric,
            against=against,
            leaked=whole if leaked else None,
            clean=None if leaked else whole,
            inflation=None,
        )
    draws = [_draws(metric, part, SEED + number) for number, part in enumerate((leaked, clean))]
    share = _weight(metric, leaked) / (_weight(metric, leaked) + _weight(metric, clean))
    added = share * (draws[0][0] - draws[1][0]), share * (draws[0][1] - draws[1][1]), len(marked)
    return Inflation(
        metric=metric,
        against=against,
        leaked=estimate_of(draws[0]),
        clean=estimate_of(draws[1]),
        inflation=estimate_of(added),
    )


def estimate_of(found: tuple[float, np.ndarray, int]) -> Estimate:
    """(value, draws R, n) with the middle 95 % of the draws."""
    value, draws_R, n = found
    low, high = np.quantile(draws_R, [0.025, 0.975])
    return Estimate(value=round(value, 5), low=round(float(low), 5), high=round(float(high), 5), n=n)


def _draws(metric: str, answers: Sequence[Answer], seed: int) -> tuple[float, np.ndarray, int]:
    """(the weighted mean of the marks, the same of R resamples, n)."""
    marks = np.array([answer.marks[metric] for answer in answers])
    weights = np.array([answer.weights.get(metric, 1.0) for answer in answers])
    random = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    for draw in range(RESAMPLES):
        rows = random.integers(0, len(marks), len(marks))
        means[draw] = (marks[rows] * weights[rows]).sum() / weights[rows].sum()
    return float((marks * weights).sum() / weights.sum()), means, len(marks)


def _weight(metric: str, answers: Sequence[Answer]) -> float:
    return sum(answer.weights.get(metric, 1.0) for answer in answers)
