"""`Answer`: one question on its way through an engine, from the queue to the record. And how it is sent."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from llmops.core.context import Surroundings
from llmops.core.errors import LlmopsError
from llmops.core.serving import Exchange, Sampling
from llmops.core.value import digest
from llmops.serving.admission import Ticket
from llmops.serving.engine import Engine, Prompt
from llmops.serving.record import Recorder
from llmops.serving.wire import DONE, ApiError, AsciiJSON, ChatRequest, Completion, event, usage

Finish = Literal["stop", "length", "cancelled", "error"]


class Answer:
    """One answer. `texts` yields it in pieces; in the end the ticket is given back and an `Exchange` recorded."""

    def __init__(self, ask: ChatRequest, version: str, ticket: Ticket, recorder: Recorder, world: Surroundings) -> None:
        self.id = f"chatcmpl-{secrets.token_hex(16)}"
        self.ask = ask
        self.finish: Finish = "cancelled"
        self.answer_tokens = 0
        self.prompt = Prompt((), "")
        self._version = version
        self._ticket = ticket
        self._recorder = recorder
        self._world = world
        self._at = world.clock()
        self._began = time.perf_counter()
        self._first_token_s: float | None = None
        self._texts: list[str] = []
        self._over = False
        self.completion = Completion(self.id, ask.model, int(self._at.timestamp()))

    @property
    def text(self) -> str:
        return "".join(self._texts)

    @property
    def usage(self) -> dict[str, int]:
        return usage(len(self.prompt.ids), self.answer_tokens)

    async def texts(self, engine: Engine) -> AsyncGenerator[str]:
        """Wait for a slot, then yield what the engine says. Raises `ApiError` 500 where the engine fails."""
        try:
            await self._ticket.slot()
            async with aclosing(engine.stream(self.prompt, self._bounded(engine))) as pieces:
                async for piece in pieces:
                    self.answer_tokens = piece.answer_tokens
                    if piece.text:
                        if self._first_token_s is None:
                            self._first_token_s = time.perf_counter() - self._began
                        self._texts.append(piece.text)
                        yield piece.text
                    if piece.finish:
                        self.finish = piece.finish
        except (LlmopsError, OSError, RuntimeError, ValueError) as error:
            self.finish = "error"
            self._world.say(f"{self._version} failed on {self.id}: {error}")
            raise ApiError(500, "engine_failed", "The engine failed on this request. Ask again.") from error
        finally:
            self.close()

    def _bounded(self, engine: Engine) -> Sampling:
        sampling = self.ask.sampling()
        room = max(1, engine.context_tokens - len(self.prompt.ids))
        return sampling.replace(max_tokens=min(sampling.max_tokens, room))

    def close(self) -> None:
        """Give back the ticket and record the exchange, once."""
        self._ticket.leave()
        if self._over:
            return
        self._over = True
        self._recorder.exchange(
            Exchange(
                id=self.id,
                version=self._version,
                at=self._at,
                prompt_sha256=digest(list(self.prompt.ids) or self.prompt.text),
                sampling=self.ask.sampling(),
                prompt_tokens=len(self.prompt.ids),
                answer_tokens=self.answer_tokens,
                first_token_s=self._first_token_s,
                total_s=time.perf_counter() - self._began,
                finish=self.finish,
                messages=self.ask.messages,
                answer=self.text,
            )
        )


async def whole_response(answer: Answer, engine: Engine, request: Request) -> Response:
    """The answer as one JSON body. A reader who leaves stops the work."""

    async def work() -> Response:
        async with aclosing(answer.texts(engine)) as texts:
            async for _ in texts:
                pass
        return AsciiJSON(answer.completion.whole(answer.text, answer.finish, answer.usage))

    response = await unless_gone(request.receive, work())
    return response or Response(status_code=499)


class StreamedResponse(Response):
    """The answer as server-sent events, in the order that OpenAI's clients expect."""

    def __init__(self, answer: Answer, engine: Engine) -> None:
        super().__init__(media_type="text/event-stream", headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self._answer = answer
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await unless_gone(receive, self._send(send))
        finally:
            self._answer.close()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with aclosing(self._events()) as events:
            async for part in events:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self) -> AsyncGenerator[bytes]:
        answer, completion = self._answer, self._answer.completion
        yield completion.chunk({"role": "assistant", "content": ""})
        try:
            async with aclosing(answer.texts(self._engine)) as texts:
                async for text in texts:
                    yield completion.chunk({"content": text})
        except ApiError as error:
            yield event(error.body())
            return
        yield completion.chunk({}, answer.finish)
        options = answer.ask.stream_options
        if options is not None and options.include_usage:
            yield completion.usage_chunk(answer.usage)
        yield DONE


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, Response | None]) -> Response | None:
    """The result of `work`, which is cancelled and waited for where the reader leaves first; None then."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        watch.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
