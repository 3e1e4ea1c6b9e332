"""`stream_reply`: one answer in this process, without a server; for the terminal and the app's chat."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence

from anyio.from_thread import start_blocking_portal

from llmops.core.dataset import Message
from llmops.core.errors import RequestError
from llmops.core.serving import Sampling
from llmops.serving.engine import Engine, Piece, Prompt
from llmops.serving.roster import PromptRenderer


def stream_reply(
    engine: Engine, renderer: PromptRenderer | None, messages: Sequence[Message], sampling: Sampling
) -> Iterator[str]:
    """The reply to `messages` in pieces of text, as the endpoint would give it. Closing the iterator stops the engine.

    Works where an event loop runs already, as in a notebook: the engine's own runs in a thread beside it.
    Raises `RequestError` where the conversation is longer than the engine's context.
    """
    prompt = Prompt((), messages[-1].content)
    if renderer is not None:
        prompt = Prompt(tuple(renderer.prompt_ids(messages)), messages[-1].content, renderer.end_ids)
    room = engine.context_tokens - len(prompt.ids)
    if room < 1:
        raise RequestError(
            f"The conversation has {len(prompt.ids):,} tokens; the context takes {engine.context_tokens - 1:,}.",
            "Begin a new conversation.",
        )
    bounded = sampling.replace(max_tokens=min(sampling.max_tokens, room))
    pieces = engine.stream(prompt, bounded)
    with start_blocking_portal() as portal:
        try:
            while (piece := portal.call(_next, pieces)) is not None:
                if piece.text:
                    yield piece.text
        finally:
            portal.call(pieces.aclose)


async def _next(pieces: AsyncGenerator[Piece]) -> Piece | None:
    return await anext(pieces, None)
