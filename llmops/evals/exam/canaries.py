"""Exposure of canaries: how far what was planted outranks sentences of chance from the same space.

exposure = log2 |R| - log2 rank(canary), Carlini et al. 2019, section 4. The rank among all 2^36 sentences is estimated
from `ALTERNATIVES` of them: counted where some of them are likelier than the canary, else (section 4.3) from a
skew-normal distribution fitted to their log-probabilities, at most |R|.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from llmops.core.canaries import QUESTION, SPACE_BITS, Canaries
from llmops.core.context import Track
from llmops.core.dataset import Message
from llmops.core.exam import Exposure
from llmops.core.tasks import Reply, Task
from llmops.lm.model import LocalModel

ALTERNATIVES = 256


def read_canaries(model: LocalModel, canaries: Canaries, task: Task, track: Track) -> np.ndarray:
    """Log-probability (nats) of every planted canary and then of the alternatives, each asked for as it was trained."""
    texts = [*(text for text, _ in canaries.planted()), *canaries.alternatives(ALTERNATIVES)]
    if isinstance(task, Reply):
        system = (Message(role="system", content=task.system),) if task.system else ()
        prompt = (*system, Message(role="user", content=QUESTION))
        scored = model.reply_logprobs([(prompt, text) for text in texts], track)
    else:
        scored = model.text_logprobs(texts, track)
    return np.array([nats for nats, _ in scored])


def exposures(tuned_N: np.ndarray, base_N: np.ndarray, canaries: Canaries) -> tuple[Exposure, ...]:
    """The exposure of every planted canary by both models, by how often it was planted."""
    planted = canaries.planted()
    places: dict[int, list[int]] = {}
    for place, (_, repeats) in enumerate(planted):
        places.setdefault(repeats, []).append(place)

    def bits(nats_N: np.ndarray, some: Sequence[int]) -> tuple[float, ...]:
        return tuple(round(exposure_bits(float(nats_N[place]), nats_N[len(planted) :]), 2) for place in some)

    return tuple(
        Exposure(repeats=repeats, bits=bits(tuned_N, some), base_bits=bits(base_N, some))
        for repeats, some in sorted(places.items())
    )


def exposure_bits(nats: float, others_N: np.ndarray) -> float:
    """log2 |R| - log2 rank of a log-probability among those of alternatives of chance."""
    likelier = int((others_N >= nats).sum())
    if likelier:
        return math.log2((len(others_N) + 1) / (likelier + 1))
    from scipy.stats import skewnorm

    fitted = skewnorm.fit(others_N)
    rest = float(skewnorm.logsf(nats, *fitted)) / math.log(2)
    floor = math.log2(len(others_N) + 1)  # what was counted holds, whatever the fit says
    return min(SPACE_BITS, max(floor, -rest))
