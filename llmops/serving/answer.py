"""`Answer`: one choice on its way through an engine, from the queue to the record. And how a completion is sent."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from llmops.core.context import Surroundings
from llmops.core.dataset import Message
from llmops.core.errors import LlmopsError
from llmops.core.serving import Exchange, Sampling
from llmops.core.value import digest
from llmops.serving.admission import Ticket
from llmops.serving.engine import Engine, Piece, Prompt
from llmops.serving.replies import Said, Shape, usage
from llmops.serving.roster import Served
from llmops.serving.tools import ToolUse
from llmops.serving.wire import DONE, ApiError, AsciiJSON, event

Finish = Literal["stop", "length", "cancelled", "error"]


def fresh_id(kind: str) -> str:
    """An id that nobody can guess: what it names can be said something of."""
    return f"{kind}-{secrets.token_hex(16)}"


@dataclass(frozen=True)
class Desk:
    """What answers share: how one is put on record, who says what went wrong, and how long one may take."""

    record: Callable[[Exchange], None]
    world: Surroundings
    deadline_s: float


class Answer:
    """One answer. `pieces` yields it; in the end the ticket is given back and an `Exchange` recorded.

    `id` is the id of its exchange: the completion's own for the first choice, with `.1` and so on for others.
    """

    def __init__(self, id: str, one: Served, prompt: Prompt, sampling: Sampling, ticket: Ticket, desk: Desk) -> None:
        self.id = id
        self.prompt = prompt
        self.finish: Finish = "cancelled"
        self.answer_tokens = 0
        self.messages: tuple[Message, ...] = ()
        self.chances: list[Any] = []
        self._engine: Engine = one.engine
        self._version = one.version
        room = max(1, one.engine.context_tokens - len(prompt.ids))
        self._sampling = sampling.replace(max_tokens=min(sampling.max_tokens, room))
        self._ticket = ticket
        self._desk = desk
        self._at: datetime = desk.world.clock()
        self._began = time.perf_counter()
        self._first_token_s: float | None = None
        self._texts: list[str] = []
        self._over = False

    @property
    def text(self) -> str:
        return "".join(self._texts)

    async def pieces(self) -> AsyncGenerator[Piece]:
        """Wait for a slot, then yield what the engine says.

        Raises `ApiError` 500 where the engine fails or broke the constraint, 504 where the deadline is over.
        """
        try:
            async with self._failures_told():
                await self._ticket.slot()
                async with aclosing(self._engine.stream(self.prompt, self._sampling)) as pieces:
                    async for piece in pieces:
                        self.answer_tokens = piece.answer_tokens
                        self.chances += piece.chances
                        if piece.text:
                            if self._first_token_s is None:
                                self._first_token_s = time.perf_counter() - self._began
                            self._texts.append(piece.text)
                        yield piece
                        if piece.finish:
                            self.finish = piece.finish
                self._check()
        finally:
            self.close()

    @asynccontextmanager
    async def _failures_told(self) -> AsyncIterator[None]:
        try:
            yield
        except (LlmopsError, OSError, RuntimeError, ValueError) as error:
            self.finish = "error"
            self._desk.world.say(f"{self._version} failed on {self.id}: {error}")
            raise ApiError(500, "engine_failed", "The engine failed on this request. Ask again.") from error

    def _check(self) -> None:
        """A whole answer keeps to its constraint. The engine follows it, but answers freely where it cannot."""
        constraint = self.prompt.constraint
        if constraint is None or self.finish != "stop":
            return
        if fault := constraint.fault(self.text):
            self.finish = "error"
            self._desk.world.say(f"{self._version} broke the constraint on {self.id}: {fault}")
            raise ApiError(500, "constraint_broken", f"The answer does not keep to what was asked: {fault}.")

    def close(self) -> None:
        """Give back the ticket and record the exchange, once."""
        self._ticket.leave()
        if self._over:
            return
        self._over = True
        self._desk.record(
            Exchange(
                id=self.id,
                version=self._version,
                at=self._at,
                prompt_sha256=digest(list(self.prompt.ids) or self.prompt.text),
                sampling=self._sampling,
                prompt_tokens=len(self.prompt.ids),
                answer_tokens=self.answer_tokens,
                first_token_s=self._first_token_s,
                total_s=time.perf_counter() - self._began,
                finish=self.finish,
                messages=self.messages,
                answer=self.text,
            )
        )


@dataclass(frozen=True)
class Completion:
    """The answers to one request, and how they are spelt. `holds` is let go of when all is over."""

    answers: Sequence[Answer]
    shape: Shape
    deadline_s: float
    tools: ToolUse | None
    holds: ExitStack

    @property
    def usage(self) -> dict[str, int]:
        """A prompt counts once, however many answers it is given."""
        prompts = {answer.prompt.ids: len(answer.prompt.ids) for answer in self.answers}
        return usage(sum(prompts.values()), sum(answer.answer_tokens for answer in self.answers))

    def said(self, answer: Answer) -> Said:
        """What an answer that has ended comes to: its calls are read out of the whole of it."""
        text, calls = self.tools.read(answer.text) if self.tools else (answer.text, [])
        chances = answer.chances if answer.prompt.likeliest is not None else None
        return Said(text, answer.finish, calls, chances)

    @asynccontextmanager
    async def in_time(self, answer: Answer) -> AsyncIterator[AsyncGenerator[Piece]]:
        """The pieces of an answer, broken off at the deadline with `ApiError` 504."""
        try:
            async with asyncio.timeout(self.deadline_s), aclosing(answer.pieces()) as pieces:
                yield pieces
        except TimeoutError as error:
            why = f"The answer took more than {self.deadline_s:.0f} s. Ask for less, or at a quieter time."
            raise ApiError(504, "deadline_exceeded", why) from error

    def close(self) -> None:
        for answer in self.answers:
            answer.close()
        self.holds.close()


async def whole_response(completion: Completion, request: Request) -> Response:
    """The answers as one JSON body. A reader who leaves stops the work."""

    async def one(answer: Answer) -> None:
        async with completion.in_time(answer) as pieces:
            async for _ in pieces:
                pass

    async def work() -> Response:
        async with asyncio.TaskGroup() as group:
            for answer in completion.answers:
                group.create_task(one(answer))
        choices = [completion.shape.choice(index, completion.said(one)) for index, one in enumerate(completion.answers)]
        return AsciiJSON(completion.shape.whole(choices, completion.usage))

    try:
        return await unless_gone(request.receive, work()) or Response(status_code=499)
    except BaseExceptionGroup as group:
        raise first_refusal(group) from group
    finally:
        completion.close()


def first_refusal(group: BaseExceptionGroup) -> BaseException:
    """What to tell a person of several failures."""
    refusals, _ = group.split(ApiError)
    found: BaseException = refusals or group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


class StreamedResponse(Response):
    """The answers as server-sent events, in the order that OpenAI's clients expect.

    An engine never waits for a reader: what it says is put down here, at most 4,096 tokens a choice, and its slot is
    free when it has ended. `HastyProtocol` cuts off a reader who takes nothing for 30 s.
    """

    def __init__(self, completion: Completion, wants_usage: bool) -> None:
        super().__init__(media_type="text/event-stream", headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self._completion = completion
        self._wants_usage = wants_usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await unless_gone(receive, self._send(send))
        finally:
            self._completion.close()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        said: asyncio.Queue[bytes | None] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._work(said))
            ended = False
            while not ended:
                parts = [await said.get()]
                while not said.empty():
                    parts.append(said.get_nowait())
                ended = parts[-1] is None
                body = b"".join(part for part in parts if part)
                await send({"type": "http.response.body", "body": body, "more_body": not ended})

    async def _work(self, said: asyncio.Queue[bytes | None]) -> None:
        """Put down every event, and None behind the last. A failure is an event too, and the last one."""
        completion = self._completion
        try:
            async with asyncio.TaskGroup() as group:
                for index, answer in enumerate(completion.answers):
                    group.create_task(self._choice(index, answer, said))
            if self._wants_usage:
                said.put_nowait(completion.shape.usage_chunk(completion.usage))
            said.put_nowait(DONE)
        except* ApiError as refused:
            said.put_nowait(event(first_refusal(refused).body()))  # type: ignore[attr-defined]
        finally:
            said.put_nowait(None)

    async def _choice(self, index: int, answer: Answer, said: asyncio.Queue[bytes | None]) -> None:
        completion, shape = self._completion, self._completion.shape
        if opening := shape.opening(index):
            said.put_nowait(opening)
        # With tools, only the whole answer tells text from calls.
        at_once = completion.tools is None
        asked = answer.prompt.likeliest is not None
        async with completion.in_time(answer) as pieces:
            async for piece in pieces:
                if at_once and (piece.text or piece.chances):
                    said.put_nowait(shape.chunk(index, piece.text, piece.chances if asked else None))
        ended = completion.said(answer)
        if not at_once and ended.text:
            said.put_nowait(shape.chunk(index, ended.text, ended.chances))
        said.put_nowait(shape.closing(index, ended))


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
