"""`Tokeniser`: from a request to what an engine reads: bounds, rendering and tokenising, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from llmops.core.dataset import Message
from llmops.core.errors import LlmopsError
from llmops.serving.constraint import Constraint
from llmops.serving.engine import Prompt
from llmops.serving.requests import LONGEST_TEXT, ChatRequest, CompletionRequest
from llmops.serving.roster import Served
from llmops.serving.tools import ToolUse, turns
from llmops.serving.wire import ApiError

PROMPT_CHARACTERS = LONGEST_TEXT
SHORT = 2_000
Ids = list[int]


class Tokeniser:
    """One at a time: a tokenizer's own settings change while it works, so two calls at once would clash.

    Long texts in a thread, off the event loop; short ones at once, where that thread rests: to wake it and to be woken
    by it takes longer than the ids of 2,000 characters do, on cores that an engine fills.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokenise")
        self._last: Future[Ids] | None = None  # they are made in turn: the last is done when all are

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def chat(self, one: Served, ask: ChatRequest, tools: ToolUse | None, held: Constraint | None) -> Prompt:
        """A conversation as an engine reads it. Raises `ApiError` 400 for what does not fit."""
        size = sum(message.size for message in ask.messages)
        _bounded(size, "messages")
        text = ask.messages[-1].text
        if one.renderer is None:
            return Prompt((), text)
        if tools is not None and one.tools is not None:
            shown = [
                tool.model_dump(exclude_none=True) for tool in ask.tools or () if tool.function.name in tools.names
            ]
            said = turns(ask.messages)
            if said[0]["role"] != "system":
                said = [*(turn.to_json() for turn in one.opening), *said]
            ids = await self.ids(one, SHORT + size, one.tools.prompt_ids, said, shown)
        else:
            ids = await self.ids(one, size, one.renderer.prompt_ids, one.as_trained(plain(ask)))
        return Prompt(tuple(ids), text, one.renderer.end_ids, held, ask.likeliest)

    async def running_text(self, one: Served, text: str, ask: CompletionRequest, held: Constraint | None) -> Prompt:
        """A text to go on with, as an engine reads it. Raises `ApiError` 400 for what does not fit."""
        _bounded(len(text), "prompt")
        if one.renderer is None:
            return Prompt((), text)
        ids = await self.ids(one, len(text), one.renderer.text_ids, text, field="prompt")
        return Prompt(tuple(ids), text, one.renderer.end_ids, held, ask.likeliest)

    async def ids(self, one: Served, size: int, render: Callable[..., Ids], *what: Any, field: str = "messages") -> Ids:
        """Token ids of a text of so many characters. Raises `ApiError` 400 for what does not fit."""
        try:
            if size <= SHORT and (self._last is None or self._last.done()):
                ids = render(*what)
            else:
                self._last = self._thread.submit(render, *what)
                ids = await asyncio.shield(asyncio.wrap_future(self._last))  # done by itself, whoever leaves
        except LlmopsError as error:
            raise ApiError(400, "invalid_value", f"{error.what} {error.fix}", field) from error
        if len(ids) >= one.engine.context_tokens:
            raise ApiError(
                400,
                "context_length_exceeded",
                f"The prompt has {len(ids):,} tokens; this model takes {one.engine.context_tokens - 1:,}. "
                "Drop old messages or shorten the last one.",
                field,
            )
        return ids


def plain(ask: ChatRequest) -> tuple[Message, ...]:
    """The conversation as training knows it."""
    return tuple(
        Message(role="system" if message.role == "developer" else message.role, content=message.text)
        for message in ask.messages
    )


def able(one: Served, held: Constraint | None, likeliest: int | None) -> None:
    """Raises `ApiError` 400 where the engine behind this version cannot do what is asked."""
    if held is not None and not (one.engine.constrains and one.renderer):
        raise _cannot(one, "constrained answers", "response_format")
    if likeliest is not None and not (one.engine.tells_chances and one.renderer):
        raise _cannot(one, "log-probabilities", "logprobs")


def _cannot(one: Served, what: str, field: str) -> ApiError:
    why = f"{one.version} is answered by {one.engine.name}, which gives no {what}. Leave {field} out."
    return ApiError(400, "unsupported_by_engine", why, field)


def _bounded(characters: int, field: str) -> None:
    if characters > PROMPT_CHARACTERS:
        why = f"The {field} may have {PROMPT_CHARACTERS:,} characters together. Shorten them."
        raise ApiError(400, "string_above_max_length", why, field)
