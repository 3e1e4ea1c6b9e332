"""How far from the true numbers? A model says its number in words; the first one in its answer is read.

No row costs more than the suite's `scale`, from the lowest to the highest training rating: so does an answer without
a number, or a row that the model failed on, and a wild number does no more harm than none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from llmops.core.context import Track
from llmops.core.dataset import Row
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.report import EvalReport, Subject, Suite
from llmops.core.serving import Sampling
from llmops.evals.score import Failed, Measured, Said, ask_each, check_some_answered, report
from llmops.evals.suite import check_rows
from llmops.lm.ports import ChatModel

# A tuned model says the number and ends. A base talks: "I would give this a 3.5" is 8 tokens of SmolLM2.
SPOKEN = Sampling(max_tokens=24)
# Not "1,5" or "1.5.2", which read either way, and no digits within a word.
NUMBER = re.compile(r"(?<![\w.,])[-+\u2212]?(?:\d+(?:\.\d+)?|\.\d+)(?!\w|[.,]\d)", re.ASCII)


def number_said(answer: str) -> float | None:
    """The first number in an answer; None where there is none, or none that a float can hold."""
    found = NUMBER.search(answer)
    number = float(found.group().replace("\u2212", "-")) if found else math.nan
    return number if math.isfinite(number) else None


def evaluate_ratings(model: ChatModel, subject: Subject, suite: Suite, rows: Sequence[Row], track: Track) -> EvalReport:
    """The report of the numbers in a model's greedy answers. Raises as `evaluate` does."""
    found = ask_each(lambda some, track: model.reply([row.prompt for row in some], SPOKEN, track), rows, track)
    check_some_answered(found)
    numbers = [None if isinstance(one, Failed) else number_said(one) for one in found]
    said = [
        Said(error=one.why)
        if isinstance(one, Failed)
        else Said(one, error="the answer has no number" if number is None else None)
        for one, number in zip(found, numbers, strict=True)
    ]
    return report(subject, suite, rows, [_measured(suite, rows, numbers)], said)


def grade_numbers(subject: Subject, suite: Suite, rows: Sequence[Row], numbers: Sequence[float]) -> EvalReport:
    """The report of numbers made elsewhere, one for each of `rows`. One that is not finite is no answer."""
    check_rows(suite, rows)
    if len(numbers) != len(rows):
        raise RequestError(f"{len(rows)} rows, but {len(numbers)} numbers", "give one number for each row")
    given = [float(number) if math.isfinite(number) else None for number in numbers]
    said = [Said(error="the number is not finite") if number is None else Said(f"{number:.6g}") for number in given]
    if all(number is None for number in given):
        raise LlmopsError("not one of the numbers is finite", "look at the training ratings with `llmops inspect`")
    return report(subject, suite, rows, [_measured(suite, rows, given)], said)


def _measured(suite: Suite, rows: Sequence[Row], numbers: Sequence[float | None]) -> Measured:
    """Each row's cost, and the numbers as they count: none further from the truth than `scale`."""
    if suite.scale is None:
        raise RequestError(f"suite {suite.id} has no scale", "make the suite for this task")
    truth = [float(row.label or row.reply) for row in rows]
    off = [
        suite.scale if number is None else max(-suite.scale, min(suite.scale, number - true))
        for number, true in zip(numbers, truth, strict=True)
    ]
    counted = [true + each for true, each in zip(truth, off, strict=True)]
    return Measured("absolute_error", counted, truth, [abs(each) for each in off], [1.0] * len(rows))
