"""`EngineSpeaker`: the served stage of a parity certificate. Rendered by the gateway, answered by its engine.

Axes: P places, K tokens named at each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llmops.core.dataset import Message
from llmops.core.serving import Sampling
from llmops.lm.stage import Look, Row, Spoken
from llmops.serving.engine import Prompt
from llmops.serving.llamacpp import LlamaCppEngine

if TYPE_CHECKING:
    from llmops.serving.gateway import Served

NAMED = 64  # likeliest tokens that the engine names at a place; the rest counts as one


class EngineSpeaker:
    """A version as it is served. `Served.as_trained` and its renderer make the prompt, as for any request.

    `opening` is what stood before every conversation in training: a client does not send it, so it is taken off.
    """

    def __init__(
        self, served: Served, engine: LlamaCppEngine, opening: tuple[Message, ...], sampling: Sampling
    ) -> None:
        assert served.renderer is not None, "an engine that reads bare text has no tokens to compare"
        self._served, self._renderer, self._engine = served, served.renderer, engine
        self._opening, self._sampling = opening, sampling
        self.end_ids = served.renderer.end_ids
        self._letter = served.renderer.content_ids("a")[-1]

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
            named = [self._named(row[: place + 1]) for place in where]
            ids_PK = np.array([[one["id"] for one in some] for some in named], dtype=np.int64)
            logprobs_PK = np.array([[one["logprob"] for one in some] for some in named], dtype=np.float32)
            found.append(Look(ids_PK, logprobs_PK))
        return found

    def _named(self, ids: Row) -> list[dict[str, Any]]:
        # What is drawn does not matter here, and a drawn half of a character would hold the whole answer back: a plain
        # letter is forced. The log-probabilities are those before any such thing.
        more = {"n_probs": NAMED, "logit_bias": [[self._letter, 1000.0]]}
        answer = self._engine.complete(Prompt(tuple(ids), ""), Sampling(max_tokens=1), more)
        return list(answer["completion_probabilities"][0]["top_logprobs"])

    def greedy(self, prompts: Sequence[Row], most_tokens: int) -> list[Spoken]:
        """Answers as `sampling` draws them, which is greedily in an endpoint that was asked for nothing else."""
        found = []
        for prompt in prompts:
            asked = self._sampling.replace(max_tokens=most_tokens)
            tokens = self._engine.complete(Prompt(tuple(prompt), ""), asked)["tokens"]
            ends = [place for place, token in enumerate(tokens) if token in self.end_ids]
            found.append(Spoken(tuple(tokens[: ends[0]] if ends else tokens), bool(ends)))
        return found
