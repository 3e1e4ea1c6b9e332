"""Proof of the intervals: of many simulated exams, how many of the printed intervals hold the truth?

A planted fault is a wrong interval, which the same check must find out. S simulations, N rows, G sources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from llmops.core.proof import CheckResult, Size, covers, found_out
from llmops.core.report import Answer, EvalReport, Score, Subject, Suite
from llmops.evals.calibration import abstain, calibration_error
from llmops.evals.intervals import (
    bootstrap_macro_f1,
    bootstrap_macro_f1_clustered,
    bootstrap_rates,
    macro_f1,
    wilson,
    wilson_clustered,
)
from llmops.evals.slices import find_slices
from llmops.store.workspace import Workspace

SIMULATIONS = 2000
SLOW = {"ci": 200, "soak": 2000}  # where one costs ten milliseconds and more
GROUPS, ROWS_A_GROUP = 60, 5
Trial = Callable[[np.random.Generator], bool]


def checks(size: Size, at: Workspace) -> Iterator[CheckResult]:
    """Each kind of interval, the two promises that hang on them, and the wrong intervals that must be found out."""
    yield covers("interval of a share (Wilson)", *_wilson())
    yield covers("interval of a share, rows share sources", *_wilson_clustered(wilson_clustered))
    yield covers("interval of a rate (bootstrap)", *_rates(clustered=False, blind=False))
    yield covers("interval of a rate, rows share sources", *_rates(clustered=True, blind=False))
    yield covers("interval of macro-F1", *_macro_f1(SIMULATIONS))
    yield covers("interval of macro-F1, rows share sources", *_macro_f1_clustered(SIMULATIONS))
    yield at_least("interval of the calibration error", *_calibration_error(SLOW[size]))
    yield kept("the promise of an abstention threshold", *_promises(SLOW[size]))
    yield kept("slices of an even model called weak", *_even_slices(SLOW[size] // 4))
    yield planted()


def at_least(name: str, held: int, of: int) -> CheckResult:
    """The goal of an interval that may be too wide, because what it hangs on is not known, and never too narrow."""
    found = covers(name, held, of)
    return found.replace(goal="the truth inside 93 % of them or more", passed=found.passed or held / of > 0.97)


def kept(name: str, broken: int, of: int) -> CheckResult:
    """The goal of a promise with 95 % confidence: broken in at most 5 of 100 cases, give or take chance."""
    luck = 2 * (0.95 * 0.05 / of) ** 0.5 if of < SIMULATIONS else 0.0
    return CheckResult(
        name=name,
        found=of - broken,
        of=of,
        goal="broken in at most 5 % of them",
        passed=broken / of <= 0.05 + luck,
        note=f"{100 * broken / of:.1f} %",
    )


def planted() -> CheckResult:
    """Wrong intervals, each put through the check of the right one."""
    faults = {
        "rows that share sources taken for independent (share)": covers("", *_wilson_clustered(_blind_wilson)),
        "rows that share sources taken for independent (rate)": covers("", *_rates(clustered=True, blind=True)),
        "the calibration error drawn again": covers("", *_drawn_again(200)),
        "a threshold where the rows just show no more errors": kept("", *_promises(200, naive=True)),
    }
    return found_out("wrong intervals are found out", faults)


def _wilson() -> tuple[int, int]:
    chance, n, truth = np.random.default_rng(1), 400, 0.8
    bounds = [wilson(int(right), n) for right in chance.binomial(n, truth, SIMULATIONS)]
    return sum(low <= truth <= high for low, high in bounds), SIMULATIONS


def _blind_wilson(marks: list[float], groups: list[str]) -> tuple[float, float]:
    """The planted fault: Wilson's interval of rows that share sources, as if they did not."""
    return wilson(sum(marks), len(marks))


def _wilson_clustered(interval: Callable[[list[float], list[str]], tuple[float, float]]) -> tuple[int, int]:
    """Sources that are easy or hard: the share of right rows is their own, 0.7 in all."""
    chance, held = np.random.default_rng(2), 0
    groups = [str(group) for group in range(GROUPS) for _ in range(ROWS_A_GROUP)]
    for _ in range(SIMULATIONS):
        shares_G = chance.beta(1.4, 0.6, GROUPS)
        marks = (chance.random(len(groups)) < np.repeat(shares_G, ROWS_A_GROUP)).astype(float)
        low, high = interval(marks.tolist(), groups)
        held += low <= 0.7 <= high
    return held, SIMULATIONS


def _rates(clustered: bool, blind: bool) -> tuple[int, int]:
    """Bits a byte of replies of many lengths, 1.6 in all; where clustered, a source is cheap or dear as a whole."""
    chance = np.random.default_rng(3)
    shape_NS = (GROUPS * ROWS_A_GROUP, SIMULATIONS)
    bytes_NS = chance.integers(5, 80, shape_NS).astype(float)
    own_GS = chance.gamma(16.0, 1 / 16, (GROUPS, SIMULATIONS)) if clustered else np.ones((GROUPS, SIMULATIONS))
    bits_NS = bytes_NS * 1.6 * np.repeat(own_GS, ROWS_A_GROUP, axis=0) * chance.gamma(4.0, 0.25, shape_NS)
    if clustered and not blind:
        bits_NS, bytes_NS = (part.reshape(GROUPS, ROWS_A_GROUP, -1).sum(axis=1) for part in (bits_NS, bytes_NS))
    held, together = 0, 500
    for start in range(0, SIMULATIONS, together):
        some = np.s_[:, start : start + together]
        low_S, high_S = bootstrap_rates(bits_NS[some], bytes_NS[some])
        held += int(((low_S <= 1.6) & (high_S >= 1.6)).sum())
    return held, SIMULATIONS


def _macro_f1(simulations: int) -> tuple[int, int]:
    chance, sizes = np.random.default_rng(4), [110, 50]
    chances_KP = np.array([[0.85, 0.15, 0.0], [0.3, 0.65, 0.05]])
    truth = float(macro_f1((chances_KP * np.array(sizes)[:, None])[None])[0])
    held = 0
    for seed in range(simulations):
        counts_KP = np.stack([chance.multinomial(n, row) for n, row in zip(sizes, chances_KP, strict=True)])
        low, high = bootstrap_macro_f1(counts_KP, seed)
        held += low <= truth <= high
    return held, simulations


def _macro_f1_clustered(simulations: int) -> tuple[int, int]:
    """Sources with a label each, which a model has right or wrong as a whole more often than not."""
    chance, held = np.random.default_rng(5), 0
    groups = [str(group) for group in range(GROUPS) for _ in range(ROWS_A_GROUP)]
    label_N = np.repeat(np.arange(GROUPS) % 2, ROWS_A_GROUP)
    truth = float(macro_f1(np.array([[[0.7, 0.3, 0.0], [0.3, 0.7, 0.0]]]))[0])
    for seed in range(simulations):
        right_N = chance.random(len(groups)) < np.repeat(chance.beta(2.1, 0.9, GROUPS), ROWS_A_GROUP)
        said_N = np.where(right_N, label_N, 1 - label_N)
        low, high = bootstrap_macro_f1_clustered(label_N.tolist(), said_N.tolist(), groups, seed)
        held += low <= truth <= high
    return held, simulations


def _exam(chance: np.random.Generator, n: int, too_sure: float) -> tuple[np.ndarray, np.ndarray]:
    """(what was said, how likely it is right) of rows whose model says `too_sure` too much."""
    said_N = np.sort(chance.uniform(0.55, 1.0, n))
    return said_N, np.clip(said_N - too_sure, 0.0, 1.0)


def _true_error(said_N: np.ndarray, likely_N: np.ndarray) -> float:
    """The calibration error over bins of equal mass, were every row asked for ever."""
    parts = np.array_split(np.arange(len(said_N)), max(1, min(10, len(said_N) // 30)))
    return sum(len(part) / len(said_N) * abs(float((said_N[part] - likely_N[part]).mean())) for part in parts)


def _calibration_error(simulations: int) -> tuple[int, int]:
    """A third of the models calibrated, a third a little too sure, a third far too sure."""
    chance, held, n = np.random.default_rng(6), 0, 300
    groups = [str(row) for row in range(n)]
    for place in range(simulations):
        said_N, likely_N = _exam(chance, n, (0.0, 0.04, 0.12)[place % 3])
        found, _ = calibration_error(said_N, (chance.random(n) < likely_N).astype(float), groups)
        held += found.low - 1e-3 <= _true_error(said_N, likely_N) <= found.high + 1e-3
    return held, simulations


def _drawn_again(simulations: int) -> tuple[int, int]:
    """The planted fault: percentiles of the calibration error of a calibrated model's rows, drawn again."""
    chance, held, n = np.random.default_rng(7), 0, 300
    parts = np.array_split(np.arange(n), 10)
    for _ in range(simulations):
        said_N, likely_N = _exam(chance, n, 0.0)
        gap_N = said_N - (chance.random(n) < likely_N)
        errors = [
            sum(len(part) / n * abs(float(gap_N[chance.choice(part, len(part))].mean())) for part in parts)
            for _ in range(60)
        ]
        held += bool(np.quantile(errors, 0.025) <= _true_error(said_N, likely_N))
    return held, simulations


def _promises(simulations: int, naive: bool = False) -> tuple[int, int]:
    """How often more than 10 % of the answers above the threshold are wrong. The fault: the lowest that just fits."""
    chance, broken, n, error = np.random.default_rng(8), 0, 400, 0.1
    for _ in range(simulations):
        said_N, likely_N = _exam(chance, n, 0.05)
        right_N = chance.random(n) < likely_N
        threshold = _just_fits(said_N, right_N, error) if naive else abstain(_said(said_N, right_N), error).threshold
        if threshold is not None:
            broken += bool((1 - likely_N[said_N >= threshold]).mean() > error)
    return broken, simulations


def _just_fits(said_N: np.ndarray, right_N: np.ndarray, error: float) -> float:
    """The planted fault: the lowest threshold above which these very rows are wrong no more often than wanted."""
    wrong_N = np.cumsum(~right_N[::-1]) / np.arange(1, len(said_N) + 1)
    fitting = np.flatnonzero(wrong_N <= error)
    return float(said_N[::-1][fitting[-1]]) if len(fitting) else 1.0


def _said(said_N: np.ndarray, right_N: np.ndarray) -> EvalReport:
    """A report of a model that says `good` with these probabilities."""
    return _report([(("good" if right else "bad"), float(said)) for said, right in zip(said_N, right_N, strict=True)])


def _even_slices(simulations: int) -> tuple[int, int]:
    """How often a model that is right as often everywhere is called weak or strong somewhere."""
    chance, broken = np.random.default_rng(9), 0
    for _ in range(simulations):
        right_N = chance.random(200) < 0.8
        report = _report([("good" if right else "bad", 0.9) for right in right_N])
        fields = [{"place": f"p{chance.integers(8)}", "hour": f"h{chance.integers(12)}"} for _ in right_N]
        answers = [one.replace(fields=field) for one, field in zip(report.answers, fields, strict=True)]
        found = find_slices(report.replace(answers=tuple(answers)))
        broken += any(one.verdict != "cannot tell" for one in found.slices)
    return broken, simulations


def _report(rows: list[tuple[str, float]]) -> EvalReport:
    """(expected, probability of `good`) of each row, as a report."""
    answers = tuple(
        Answer(
            row=f"r{place}",
            prompt="?",
            expected=expected,
            answered="good",
            marks={"accuracy": float(expected == "good")},
            chances={"good": said, "bad": 1 - said},
        )
        for place, (expected, said) in enumerate(rows)
    )
    right = sum(answer.marks["accuracy"] for answer in answers)
    low, high = wilson(right, len(answers))
    score = Score(metric="accuracy", value=right / len(answers), low=low, high=high, n=len(answers))
    suite = Suite(dataset="simulated", rows_sha256="", measures=("accuracy",), slices=())
    return EvalReport(subject=Subject(kind="tuned", ref="x"), suite=suite, scores={"accuracy": score}, answers=answers)
