"""The two ports of a model: `ScoringModel` gives log-probabilities, `ChatModel` speaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from llmops.core.context import Track
from llmops.core.dataset import Message
from llmops.core.serving import Sampling
from llmops.core.views import TokenView

if TYPE_CHECKING:
    import numpy as np

Asked = str | Sequence[Message]  # a text to go on with, or what is said to a chat model


@dataclass(frozen=True)
class Probe:
    """One look at N prompts: log-probability (nats) of each of K labels as the reply, and the last hidden state.

    `logprobs_NK` is not normalised over the labels. `hidden_ND` is float32, taken at the end of the prompt.
    """

    logprobs_NK: np.ndarray
    hidden_ND: np.ndarray


class ScoringModel(Protocol):
    """Anything that can say how likely a reply is."""

    def probe(self, prompts: Sequence[Sequence[Message]], labels: Sequence[str], track: Track) -> Probe:
        """Look once at each prompt."""
        ...

    def reply_logprobs(self, pairs: Sequence[tuple[Sequence[Message], str]], track: Track) -> list[tuple[float, int]]:
        """(sum of log-probabilities in nats, tokens) of each reply with its end token; prompt () is no context."""
        ...

    def option_logprobs(
        self, asked: Sequence[tuple[Asked, Sequence[str]]], track: Track
    ) -> list[list[tuple[float, int]]]:
        """(sum of log-probabilities in nats, tokens) of each option of each question.

        Behind a text an option goes on as it stands; behind messages it is a whole reply, with its end token.
        """
        ...

    def base_logprobs(
        self, pairs: Sequence[tuple[Sequence[Message], str]], track: Track
    ) -> list[tuple[float, int]] | None:
        """The same by the base that this model was tuned from; None where it is a base itself."""
        ...

    def text_logprobs(self, texts: Sequence[str], track: Track) -> list[tuple[float, int]]:
        """(sum of log-probabilities in nats, tokens) of each running text, its end token not counted."""
        ...

    def inspect_reply(self, prompt: Sequence[Message], reply: str, top: int = 5) -> list[TokenView]:
        """Each token of a reply with its probability and the likeliest others."""
        ...


class ChatModel(Protocol):
    """Anything that answers."""

    def reply(self, prompts: Sequence[Sequence[Message]], sampling: Sampling, track: Track) -> list[str]:
        """One answer to each prompt."""
        ...
