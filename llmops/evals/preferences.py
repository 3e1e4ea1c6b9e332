"""Does a model side with people? Measured on pairs of a chosen and a rejected reply, and on replies with a thumb.

Two measures. `preference` asks the model by itself: is the whole chosen reply likelier (nats, end token included) than
the rejected one? `reward_accuracy` asks what training changed: has the chosen reply gained more over the base than the
rejected one has (the implicit reward of DPO and KTO)? A base has changed nothing: every row is a tie and counts half.
A reply with a thumb has no partner: its gain is set against the median gain of all rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from llmops.core.context import Track
from llmops.core.dataset import Row
from llmops.core.errors import RequestError
from llmops.evals.score import Failed, Measured, Said, ask_each, check_some_answered
from llmops.lm.ports import ScoringModel

FAILED = -math.inf  # a row that the model failed on is one it got wrong


def preference(model: ScoringModel, rows: Sequence[Row], track: Track) -> tuple[Measured, list[Said]]:
    """Chosen against rejected, by the model's own log-probabilities."""
    if any(row.rejected is None for row in rows):
        raise RequestError("preference compares pairs, and some rows have no rejected reply", _FIX)
    found = _asked(lambda pairs, track: [nats for nats, _ in model.reply_logprobs(pairs, track)], rows, track)
    return _measured("preference", rows, [_margin(one) for one in found], found)


def reward_accuracy(model: ScoringModel, rows: Sequence[Row], track: Track) -> tuple[Measured, list[Said]]:
    """Chosen against rejected, or liked against not, by what was gained over the base."""
    if any(row.rejected is None and row.liked is None for row in rows):
        raise RequestError("reward_accuracy needs pairs or thumbs, and some rows have neither", _FIX)
    found = _asked(model.reply_gains, rows, track)
    alone = [
        one[0] for row, one in zip(rows, found, strict=True) if row.rejected is None and not isinstance(one, Failed)
    ]
    middle = float(np.median(alone)) if alone else 0.0
    margins = [
        _margin(one)
        if row.rejected is not None or isinstance(one, Failed)
        else (one[0] - middle) * (1 if row.liked else -1)
        for row, one in zip(rows, found, strict=True)
    ]
    return _measured("reward_accuracy", rows, margins, found)


_FIX = "leave it out of task.measures, or bring rows of shape 'preference' (or 'thumbs', for reward_accuracy)"


def _asked(ask: Callable[..., Sequence[float]], rows: Sequence[Row], track: Track) -> list[list[float] | Failed]:
    """The number that `ask` gives each reply of each row."""
    pairs = [(row.prompt, reply) for row in rows for reply in (row.reply, row.rejected) if reply is not None]
    answers = iter(ask_each(ask, pairs, track))
    found: list[list[float] | Failed] = []
    for row in rows:
        some = [next(answers) for _ in range(1 if row.rejected is None else 2)]
        failed = [
            one if isinstance(one, Failed) else Failed("the model gave no finite probability")
            for one in some
            if isinstance(one, Failed) or not math.isfinite(one)
        ]
        found.append(failed[0] if failed else [float(one) for one in some if not isinstance(one, Failed)])
    check_some_answered(found)
    return found


def _margin(one: list[float] | Failed) -> float:
    return FAILED if isinstance(one, Failed) else one[0] - one[1]


def _measured(
    metric: str, rows: Sequence[Row], margins: Sequence[float], found: Sequence[list[float] | Failed]
) -> tuple[Measured, list[Said]]:
    said = [
        Said(error=one.why) if isinstance(one, Failed) else Said(row.reply if margin > 0 else row.rejected or "")
        for row, margin, one in zip(rows, margins, found, strict=True)
    ]
    return Measured(metric, margins, [0.0] * len(rows), [agreed(margin) for margin in margins]), said


def agreed(margin: float) -> float:
    """1 where the margin is above 0, 0 where it is below, a half where there is none."""
    return (float(np.sign(margin)) + 1) / 2
