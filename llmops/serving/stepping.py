"""`SteppingEngine`: an engine that is asked for one token after the other, such as transformers; for inspection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from llmops.core.serving import Sampling
from llmops.serving.engine import Ended, Piece, Plain, Prompt


class SteppingEngine(Plain):
    """`steps` yields the token ids of an answer, up to and without its end token; `decode` makes text of them.

    One answer at a time, in one thread. Text is decoded as a whole, so that no character is cut.
    """

    def __init__(
        self,
        name: str,
        steps: Callable[[Sequence[int], Sampling], Iterator[int]],
        decode: Callable[[Sequence[int]], str],
        context_tokens: int = 2048,
    ) -> None:
        self.name = name
        self.slots = 1
        self.context_tokens = context_tokens
        self._steps = steps
        self._decode = decode
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="steps")

    async def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Piece]:
        loop = asyncio.get_running_loop()
        steps = self._steps(prompt.ids, sampling)
        ids: list[int] = []
        sent = ""
        finish: Ended = "stop"
        try:
            while (token := await loop.run_in_executor(self._thread, next, steps, None)) is not None:
                ids.append(token)
                text, stopped = _until_stop(self._decode(ids), sampling.stop)
                ready = text if stopped else text[: len(text) - _held_back(text, sampling.stop)]
                if len(ready) > len(sent):
                    yield Piece(ready[len(sent) :], len(ids))
                    sent = ready
                if stopped:
                    break
                if len(ids) == sampling.max_tokens:
                    finish = "length"
                    break
            rest = _until_stop(self._decode(ids), sampling.stop)[0][len(sent) :]
            yield Piece(rest, len(ids), finish)
        finally:
            steps.close()  # type: ignore[attr-defined]

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)


def _until_stop(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """(the text before the first stop word, whether there is one)."""
    places = [text.index(stop) for stop in stops if stop in text]
    return (text[: min(places)], True) if places else (text, False)


def _held_back(text: str, stops: Sequence[str]) -> int:
    """Characters at the end that may yet change: half a character, or the beginning of a stop word."""
    half = len(text) - len(text.rstrip("\ufffd"))
    begun = [length for stop in stops for length in range(1, len(stop)) if text.endswith(stop[:length])]
    return max([half, *begun])
