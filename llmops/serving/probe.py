"""`EngineSpeaker`: the served stage of a parity certificate. Rendered by the gateway, answered by its engine.

Axes: P places, K tokens named at each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from llmops.core.dataset import Message
from llmops.core.serving import Sampling
from llmops.lm.stage import Look, Row, Spoken

if TYPE_CHECKING:
    from llmops.serving.gateway import Served

NAMED = 64  # likeliest tokens that the engine names at a place; the rest counts as one


class Asked(Protocol):
    """What an engine answers to llmops' own questions, which block. Both raise `LlmopsError` where it refuses."""

    def likeliest(self, ids: Sequence[int], number: int) -> list[tuple[int, float]]:
        """The ids and log-probabilities (nats) of so many of the likeliest tokens behind `ids`."""
        ...

    def answer_ids(self, ids: Sequence[int], sampling: Sampling) -> list[int]:
        """The tokens of an answer."""
        ...


class EngineSpeaker:
    """A version as it is served. `Served.as_trained` and its renderer make the prompt, as for any request.

    `opening` is what stood before every conversation in training: a client does not send it, so it is taken off.
    """

    def __init__(self, served: Served, engine: Asked, opening: tuple[Message, ...], sampling: Sampling) -> None:
        assert served.renderer is not None, "an engine that reads bare text has no tokens to compare"
        self._served, self._renderer, self._engine = served, served.renderer, engine
        self._opening, self._sampling = opening, sampling
        self.end_ids = served.renderer.end_ids

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """A client sends what a person said; what stood before it in training is the gateway's to add."""
        before = len(self._opening)
        said = messages[before:] if tuple(messages[:before]) == self._opening else messages
        return self._renderer.prompt_ids(self._served.as_trained(said))

    def text_ids(self, text: str) -> list[int]:
        """As for a text completion."""
        return self._renderer.text_ids(text)

    def look(self, rows: Sequence[Row], places: Sequence[Sequence[int]]) -> list[Look]:
        """One token asked for behind each place. Raises `LlmopsError` where the engine refuses."""
        found = []
        for row, where in zip(rows, places, strict=True):
            named = [self._engine.likeliest(row[: place + 1], NAMED) for place in where]
            ids_PK = np.array([[token for token, _ in some] for some in named], dtype=np.int64)
            logprobs_PK = np.array([[logprob for _, logprob in some] for some in named], dtype=np.float32)
            found.append(Look(ids_PK, logprobs_PK))
        return found

    def greedy(self, prompts: Sequence[Row], most_tokens: int) -> list[Spoken]:
        """Answers as `sampling` draws them, which is greedily in an endpoint that was asked for nothing else."""
        found = []
        for prompt in prompts:
            tokens = self._engine.answer_ids(prompt, self._sampling.replace(max_tokens=most_tokens))
            ends = [place for place, token in enumerate(tokens) if token in self.end_ids]
            found.append(Spoken(tuple(tokens[: ends[0]] if ends else tokens), bool(ends)))
        return found
