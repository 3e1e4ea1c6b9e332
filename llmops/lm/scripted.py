"""`ScriptedModel`: both ports answered from two functions. No weights, no torch; the seam that tests use."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from llmops.core.context import Track, silent
from llmops.core.dataset import Message
from llmops.core.serving import Sampling
from llmops.core.views import TokenView
from llmops.lm.ports import Asked, Probe

Prompt = Sequence[Message]


def echo(prompt: Prompt) -> str:
    """Say the last message back."""
    return prompt[-1].content if prompt else ""


def one_bit_a_byte(prompt: Prompt, reply: str) -> float:
    """Log-probability (nats) of a model that finds every byte as likely as a coin's side."""
    return -math.log(2) * len(reply.encode())


class ScriptedModel:
    """`replies(prompt)` is what it says, `logprob(prompt, reply)` (nats) how likely it finds a reply.

    Its tokens are the words of a text and one end token, its hidden state the log-probabilities of the labels.
    """

    def __init__(
        self,
        replies: Callable[[Prompt], str] = echo,
        logprob: Callable[[Prompt, str], float] = one_bit_a_byte,
    ) -> None:
        self.replies = replies
        self.logprob = logprob

    def probe(self, prompts: Sequence[Prompt], labels: Sequence[str], track: Track = silent) -> Probe:
        """`logprob` of each label after each prompt."""
        import numpy as np

        found = [
            [self.logprob(prompt, label) for label in labels] for prompt in track(prompts, "reading rows", len(prompts))
        ]
        logprobs_NK = np.array(found, dtype=np.float64).reshape(len(prompts), len(labels))
        return Probe(logprobs_NK, logprobs_NK.astype(np.float32))

    def reply_logprobs(self, pairs: Sequence[tuple[Prompt, str]], track: Track = silent) -> list[tuple[float, int]]:
        """`logprob` of each reply after its prompt, and its words plus the end token."""
        tracked = track(pairs, "scoring replies", len(pairs))
        return [(self.logprob(prompt, reply), len(reply.split()) + 1) for prompt, reply in tracked]

    def option_logprobs(
        self, asked: Sequence[tuple[Asked, Sequence[str]]], track: Track = silent
    ) -> list[list[tuple[float, int]]]:
        """`logprob` of each option, and its words; a text to go on with is a message of the user."""
        prompts = [(Message(role="user", content=one),) if isinstance(one, str) else one for one, _ in asked]
        tracked = track(zip(prompts, asked, strict=True), "scoring options", len(asked))
        return [
            [(self.logprob(prompt, option), len(option.split())) for option in options]
            for prompt, (_, options) in tracked
        ]

    def base_logprobs(self, pairs: Sequence[tuple[Prompt, str]], track: Track = silent) -> list[tuple[float, int]]:
        """The base here is `one_bit_a_byte`."""
        return ScriptedModel(self.replies).reply_logprobs(pairs, track)

    def text_logprobs(self, texts: Sequence[str], track: Track = silent) -> list[tuple[float, int]]:
        """`logprob` of each text after nothing, and its words."""
        return [(self.logprob((), text), len(text.split())) for text in track(texts, "scoring texts", len(texts))]

    def inspect_reply(self, prompt: Prompt, reply: str, top: int = 5) -> list[TokenView]:
        """One token a word and the end token, all equally likely, with no others."""
        words = [*reply.split(), ""]
        probability = math.exp(self.logprob(prompt, reply) / len(words))
        return [
            TokenView(text=word, id=place, trained=True, probability=probability) for place, word in enumerate(words)
        ]

    def reply(self, prompts: Sequence[Prompt], sampling: Sampling, track: Track = silent) -> list[str]:
        """`replies(prompt)` for each prompt, cut to `sampling.max_tokens` words."""
        answers = [self.replies(prompt) for prompt in track(prompts, "answering", len(prompts))]
        short = [" ".join(answer.split()[: sampling.max_tokens]) for answer in answers]
        return [
            answer if len(answer.split()) <= sampling.max_tokens else cut
            for answer, cut in zip(answers, short, strict=True)
        ]

    def go_on(self, texts: Sequence[str], sampling: Sampling, track: Track = silent) -> list[str]:
        """The same for each text, as if a user had said it."""
        return self.reply([(Message(role="user", content=text),) for text in texts], sampling, track)
