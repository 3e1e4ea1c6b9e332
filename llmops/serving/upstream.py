"""`UpstreamEngine`: another server speaks, such as vLLM. Rendered and tokenised here, as in training; it gets ids."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass, field
from typing import Any

from llmops.core.errors import LlmopsError
from llmops.core.serving import Sampling
from llmops.serving.engine import Ended, Piece, Plain, Prompt

Json = dict[str, Any]


@dataclass(frozen=True)
class Upstream:
    """Where it answers (`http://host:port`, without `/v1`), what it calls the model, and the token that it asks for."""

    url: str
    model: str
    token: str | None = field(default=None, repr=False)


class UpstreamEngine(Plain):
    """An OpenAI-compatible server that takes a prompt as token ids: vLLM, SGLang, llama.cpp's own.

    Constraints and log-probabilities are not passed on: how they are asked for differs from server to server.
    """

    def __init__(self, upstream: Upstream, slots: int = 64, context_tokens: int = 2048) -> None:
        self.name = f"upstream {upstream.url}"
        self.slots = slots
        self.context_tokens = context_tokens
        self._upstream = upstream

    async def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Piece]:
        import aiohttp

        token = self._upstream.token
        limits = aiohttp.ClientTimeout(total=None, connect=10)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        body = {**_asked(sampling), "model": self._upstream.model, "prompt": list(prompt.ids)}
        async with aiohttp.ClientSession(timeout=limits, headers=headers, trust_env=False) as client:
            try:
                answer = await client.post(f"{self._upstream.url}/v1/completions", json=body)
                if answer.status != 200:
                    said = (await answer.read()).decode("utf-8", "replace")[:300]
                    raise LlmopsError(f"{self.name} answered {answer.status}: {said}", "See its log.")
                async for piece in _pieces(answer.content):
                    yield piece
            except aiohttp.ClientError as error:
                raise LlmopsError(f"{self.name} cannot be reached: {error}.", "Is it running?") from error


def _asked(sampling: Sampling) -> Json:
    return {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "stop": list(sampling.stop) or None,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def _pieces(lines: AsyncIterable[bytes]) -> AsyncGenerator[Piece]:
    """The events of `/v1/completions`. The counts come last; until then a piece counts as a token."""
    count, finish = 0, None
    async for line in lines:
        word, _, data = line.strip().partition(b":")
        if word != b"data":
            continue
        if data.strip() == b"[DONE]":
            break
        said: Json = json.loads(data)
        if "error" in said:
            raise LlmopsError(f"The upstream failed: {said['error']}", "See its log.")
        count = (said.get("usage") or {}).get("completion_tokens", count)
        for choice in said.get("choices", ()):
            finish = choice.get("finish_reason") or finish
            if choice.get("text"):
                count += 1
                yield Piece(choice["text"], count)
    if finish is None:
        raise LlmopsError("The upstream broke off in the middle of an answer.", "Ask again; see its log.")
    ended: Ended = "length" if finish == "length" else "stop"
    yield Piece("", count, ended)
