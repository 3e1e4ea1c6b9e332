"""`Engine`: whatever turns a rendered prompt into pieces of an answer. Here are the port, a fake and a cheap row."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from llmops.core.errors import LlmopsError
from llmops.core.serving import Sampling
from llmops.serving.constraint import Constraint

Ended = Literal["stop", "length"]


@dataclass(frozen=True)
class Prompt:
    """A question as an engine may read it: as token ids, or as the bare text of the last message.

    `constraint` is what the answer has to keep to, `likeliest` how many of the likeliest tokens to tell at each place
    (None: no log-probabilities at all).
    """

    ids: tuple[int, ...]
    text: str
    end_ids: frozenset[int] = frozenset()
    constraint: Constraint | None = None
    likeliest: int | None = None


@dataclass(frozen=True)
class TokenChance:
    """A token, its log-probability (nats) before temperature, and the likeliest tokens at its place."""

    text: str
    logprob: float
    raw: bytes
    likeliest: tuple[TokenChance, ...] = ()


@dataclass(frozen=True)
class Piece:
    """A part of an answer. Pieces concatenate to it; `finish` is set on the last one only, which may be empty."""

    text: str
    answer_tokens: int
    finish: Ended | None = None
    chances: tuple[TokenChance, ...] = ()


class Engine(Protocol):
    """Answers up to `slots` prompts at once, each with at most `context_tokens` of prompt and answer together.

    `constrains`, `tells_chances` and `chooses` say whether it can hold an answer to a `Constraint`, tell
    log-probabilities, and `choose`. Engines with the same `pool` share its slots.
    """

    name: str
    slots: int
    context_tokens: int
    constrains: bool
    tells_chances: bool
    chooses: bool

    @property
    def pool(self) -> object:
        """What the slots belong to: the engine itself, unless several share one."""
        ...

    def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Piece]:
        """The answer in pieces, each whole Unicode characters. Closing the iterator stops the work."""
        ...

    async def choose(self, ids: Sequence[int], options: Sequence[int]) -> list[float]:
        """The probability of each option as the next token, among the options, in one forward pass."""
        ...

    def close(self) -> None:
        """Give back memory and threads. A closed engine answers nothing more."""
        ...


class Plain:
    """What most engines are: by themselves, and without the finer arts."""

    constrains = False
    tells_chances = False
    chooses = False

    @property
    def pool(self) -> object:
        return self

    async def choose(self, ids: Sequence[int], options: Sequence[int]) -> list[float]:
        raise LlmopsError("This engine does not choose among tokens.", "Ask it for an answer instead.")

    def close(self) -> None:
        """Nothing to give back."""


class ScriptedEngine(Plain):
    """A fake: answers what `script` makes of the prompt, `pause_s` seconds before each piece.

    With `chances`, it also chooses; `constrains` is what it says of itself. `running` counts the answers under way,
    `left` those whose reader went away.
    """

    def __init__(
        self,
        script: Callable[[Prompt], Iterable[str]],
        pause_s: float = 0.0,
        slots: int = 8,
        context_tokens: int = 2048,
        chances: Callable[[Sequence[int], Sequence[int]], list[float]] | None = None,
        constrains: bool = False,
    ) -> None:
        self.name = "script"
        self.script = script
        self.pause_s = pause_s
        self.slots = slots
        self.context_tokens = context_tokens
        self.constrains = constrains
        self.tells_chances = True
        self.chooses = chances is not None
        self.running = 0
        self.left = 0
        self._chances = chances

    async def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Piece]:
        self.running += 1
        finish: Ended | None = None
        try:
            count = 0
            for count, text in enumerate(self.script(prompt), start=1):
                await asyncio.sleep(self.pause_s)
                if count > sampling.max_tokens:
                    finish = "length"
                    break
                yield Piece(text, count, None, () if prompt.likeliest is None else (_certain(text, prompt.likeliest),))
            finish = finish or "stop"
            yield Piece("", min(count, sampling.max_tokens), finish)
        finally:
            self.running -= 1
            self.left += finish is None

    async def choose(self, ids: Sequence[int], options: Sequence[int]) -> list[float]:
        assert self._chances is not None
        await asyncio.sleep(self.pause_s)
        return self._chances(ids, options)


def _certain(text: str, likeliest: int) -> TokenChance:
    one = TokenChance(text, 0.0, text.encode())
    return TokenChance(text, 0.0, text.encode(), (one,) if likeliest else ())


class ClassifierEngine(Plain):
    """A cheap row as an engine: reads the bare text and answers its likeliest label.

    `chances` gives the probability of each of `labels` for a text.
    """

    def __init__(self, labels: Sequence[str], chances: Callable[[str], Sequence[float]]) -> None:
        self.name = "classifier"
        self.slots = 1
        self.context_tokens = 131_072
        self.labels = tuple(labels)
        self._chances = chances

    async def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Piece]:
        found = await self.label_chances(prompt.text)
        yield Piece(self.labels[max(range(len(found)), key=found.__getitem__)], 1, "stop")

    async def label_chances(self, text: str) -> list[float]:
        """The probability of each label."""
        return [float(one) for one in await asyncio.to_thread(self._chances, text)]


class RaterEngine(Plain):
    """A cheap row of ratings as an engine: reads the bare text and answers its number."""

    def __init__(self, number: Callable[[str], float]) -> None:
        self.name = "rater"
        self.slots = 1
        self.context_tokens = 131_072
        self._number = number

    async def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Piece]:
        yield Piece(f"{await asyncio.to_thread(self._number, prompt.text):.6g}", 1, "stop")
