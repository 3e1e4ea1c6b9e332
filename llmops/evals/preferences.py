"""Does a model side with people? Measured on pairs of a chosen and a rejected reply, and on replies with a thumb.

Two measures. `preference` asks the model by itself: is the whole chosen reply likelier (nats, end token included) than
the rejected one? `reward_accuracy` asks what training changed: has the chosen reply gained more over the base than the
rejected one has (the implicit reward of DPO and KTO)? A base has changed nothing: every row is a tie and counts half.
A reply with a thumb has no partner: its gain is set against the median gain of all rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from llmops.core.context import Track
from llmops.core.dataset import Message, Row
from llmops.core.errors import RequestError
from llmops.evals.score import Failed, Measured, Said, check_some_answered
from llmops.lm.ports import ScoringModel

FAILED = -math.inf  # a row that the model failed on is one it got wrong
FIX = "leave it out of task.measures, or bring rows of shape 'preference' (or 'thumbs', for reward_accuracy)"

Pair = tuple[tuple[Message, ...], str]
Scored = Mapping[Pair, tuple[float, int] | Failed]


def sides(row: Row) -> list[Pair]:
    """The prompt with the row's reply, and with the rejected one where there is one."""
    return [(row.prompt, reply) for reply in (row.reply, row.rejected) if reply is not None]


def preference(model: ScoringModel, rows: Sequence[Row], scored: Scored, track: Track) -> tuple[Measured, list[Said]]:
    """Chosen against rejected, by the model's own log-probabilities."""
    if any(row.rejected is None for row in rows):
        raise RequestError("preference compares pairs, and some rows have no rejected reply", FIX)
    found = [_numbers([_nats(scored[pair]) for pair in sides(row)]) for row in rows]
    return _measured("preference", rows, [_margin(one) for one in found], found)


def reward_accuracy(
    model: ScoringModel, rows: Sequence[Row], scored: Scored, track: Track
) -> tuple[Measured, list[Said]]:
    """Chosen against rejected, or liked against not, by what was gained over the base."""
    if any(row.rejected is None and row.liked is None for row in rows):
        raise RequestError("reward_accuracy needs pairs or thumbs, and some rows have neither", FIX)
    pairs = list(dict.fromkeys(pair for row in rows for pair in sides(row)))
    before = model.base_logprobs(pairs, track)
    start = None if before is None else {pair: nats for pair, (nats, _) in zip(pairs, before, strict=True)}
    found = [
        _numbers([0.0 if start is None else _gain(_nats(scored[pair]), start[pair]) for pair in sides(row)])
        for row in rows
    ]
    alone = [
        one[0] for row, one in zip(rows, found, strict=True) if row.rejected is None and not isinstance(one, Failed)
    ]
    middle = float(np.median(alone)) if alone else 0.0
    margins = [
        _margin(one) if row.rejected is not None else _against(one, middle, bool(row.liked))
        for row, one in zip(rows, found, strict=True)
    ]
    return _measured("reward_accuracy", rows, margins, found)


def _nats(one: tuple[float, int] | Failed) -> float | Failed:
    return one if isinstance(one, Failed) else one[0]


def _gain(now: float | Failed, before: float) -> float | Failed:
    return now if isinstance(now, Failed) else now - before


def _numbers(some: Sequence[float | Failed]) -> list[float] | Failed:
    """The numbers of a row, or the first failure among them."""
    failed = [one for one in some if isinstance(one, Failed)]
    return failed[0] if failed else [one for one in some if not isinstance(one, Failed)]


def _against(one: list[float] | Failed, middle: float, liked: bool) -> float:
    return FAILED if isinstance(one, Failed) else (one[0] - middle) * (1 if liked else -1)


def _margin(one: list[float] | Failed) -> float:
    return FAILED if isinstance(one, Failed) else one[0] - one[1]


def _measured(
    metric: str, rows: Sequence[Row], margins: Sequence[float], found: Sequence[list[float] | Failed]
) -> tuple[Measured, list[Said]]:
    check_some_answered(found)
    said = [
        Said(error=one.why) if isinstance(one, Failed) else Said(row.reply if margin > 0 else row.rejected or "")
        for row, margin, one in zip(rows, margins, found, strict=True)
    ]
    return Measured(metric, margins, [0.0] * len(rows), [agreed(margin) for margin in margins]), said


def agreed(margin: float) -> float:
    """1 where the margin is above 0, 0 where it is below, a half where there is none."""
    return (float(np.sign(margin)) + 1) / 2
