"""`build_app`: the OpenAI-compatible endpoint. The training renderer renders and tokenises; engines see token ids."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from fastapi import FastAPI
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from llmops.core.context import Surroundings
from llmops.core.dataset import Message
from llmops.core.errors import LlmopsError
from llmops.core.serving import Feedback
from llmops.serving import strict_json
from llmops.serving.admission import Gate
from llmops.serving.answer import Answer, StreamedResponse, whole_response
from llmops.serving.engine import Engine, Prompt
from llmops.serving.record import Recorder
from llmops.serving.security import LOOPBACK, Guard, Rules, sha256
from llmops.serving.wire import ApiError, AsciiJSON, ChatRequest, FeedbackRequest, invalid
from llmops.store.ledger import Ledger

OPEN_PATHS = frozenset({"/healthz"})
BODY_BYTES = 1024 * 1024
BODY_S = 30.0
PROMPT_CHARACTERS = 131_072
B = TypeVar("B", bound=BaseModel)


class PromptRenderer(Protocol):
    """What serving needs of `lm.render.Renderer`."""

    end_ids: frozenset[int]

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]: ...

    def content_ids(self, text: str) -> list[int]: ...


@dataclass(frozen=True)
class Served:
    """A version behind an engine. `version` is `tone:2`; `aliases` are the other names it answers to.

    Without a renderer the engine reads the bare text of the last message (a cheap row). `opening` stood before
    every conversation in training, so it is put before one that brings no system prompt of its own.
    """

    version: str
    aliases: tuple[str, ...]
    engine: Engine
    renderer: PromptRenderer | None
    opening: tuple[Message, ...] = ()

    def as_trained(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """The messages as this version saw them in training."""
        return (*(() if messages[0].role == "system" else self.opening), *messages)


@dataclass(frozen=True)
class ServeSettings:
    """How to serve. Another host than loopback needs a token and an allowed host; port 0 is any free one."""

    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    keep_text: bool = False
    queue: int = 64


def build_app(served: Sequence[Served], ledger: Ledger, settings: ServeSettings, world: Surroundings) -> FastAPI:
    """The endpoint as an ASGI app behind its guard. Its lifespan closes the recorder, not the engines."""
    gateway = Gateway(served, ledger, settings, world)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            gateway.close()

    app = FastAPI(title="llmops", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    rules = Rules(
        token_sha256=None if settings.token is None else sha256(settings.token),
        hosts=LOOPBACK | {host.lower() for host in settings.allowed_hosts},
        open_paths=OPEN_PATHS,
    )
    app.add_middleware(Guard, rules=rules)
    app.add_exception_handler(ApiError, _say_no)
    app.add_exception_handler(HTTPException, _say_no)
    app.add_exception_handler(ClientDisconnect, _say_no)
    app.add_exception_handler(Exception, _say_no)
    app.add_api_route("/healthz", gateway.healthz, methods=["GET"])
    app.add_api_route("/v1/models", gateway.models, methods=["GET"])
    app.add_api_route("/v1/chat/completions", gateway.chat, methods=["POST"])
    app.add_api_route("/v1/feedback", gateway.feedback, methods=["POST"])
    return app


class Gateway:
    """The routes, and what they share: a queue per engine, one tokenising thread, one recorder."""

    def __init__(self, served: Sequence[Served], ledger: Ledger, settings: ServeSettings, world: Surroundings) -> None:
        self._served = {name: one for one in served for name in (one.version, *one.aliases)}
        self._gates = {id(one.engine): Gate(one.engine.slots, settings.queue) for one in served}
        # One thread: a tokenizer's own settings change while it works, so two calls at once would clash.
        self._tokeniser = ThreadPoolExecutor(1, thread_name_prefix="tokenise")
        self._recorder = Recorder(ledger, world, settings.keep_text)
        self._world = world
        self._since = int(world.clock().timestamp())

    def close(self) -> None:
        """Write what is queued for the ledger, and stop the threads."""
        self._tokeniser.shutdown(wait=True, cancel_futures=True)
        self._recorder.close()

    async def healthz(self) -> Response:
        """Open to everyone: says only that somebody answers."""
        return AsciiJSON({"status": "ok"})

    async def models(self) -> Response:
        """Every name that a request may ask for."""
        about = {"object": "model", "created": self._since, "owned_by": "llmops"}
        return AsciiJSON({"object": "list", "data": [{"id": name, **about} for name in self._served]})

    async def chat(self, request: Request) -> Response:
        """One answer, streamed or whole."""
        ask = checked(ChatRequest, await read_body(request))
        one = self._served.get(ask.model)
        if one is None:
            known = ", ".join(self._served)
            raise ApiError(404, "model_not_found", f"There is no such model here. Ask for one of: {known}.", "model")
        if sum(len(message.content) for message in ask.messages) > PROMPT_CHARACTERS:
            raise ApiError(
                400,
                "string_above_max_length",
                f"The messages have more than {PROMPT_CHARACTERS:,} characters together. Shorten them.",
                "messages",
            )
        ticket = self._gates[id(one.engine)].enter()
        answer = Answer(ask, one.version, ticket, self._recorder, self._world)
        try:
            answer.prompt = await self._prompt(one, ask.messages)
        except BaseException:
            ticket.leave()
            raise
        if ask.stream:
            return StreamedResponse(answer, one.engine)
        return await whole_response(answer, one.engine, request)

    async def _prompt(self, one: Served, messages: tuple[Message, ...]) -> Prompt:
        """Render and tokenise off the event loop. Raises `ApiError` 400 for what does not fit."""
        text = messages[-1].content
        if one.renderer is None:
            return Prompt((), text)
        loop = asyncio.get_running_loop()
        try:
            ids = await loop.run_in_executor(self._tokeniser, one.renderer.prompt_ids, one.as_trained(messages))
        except LlmopsError as error:
            raise ApiError(400, "invalid_value", f"{error.what} {error.fix}", "messages") from error
        if len(ids) >= one.engine.context_tokens:
            raise ApiError(
                400,
                "context_length_exceeded",
                f"The prompt has {len(ids):,} tokens; this model takes {one.engine.context_tokens - 1:,}. "
                "Drop old messages or shorten the last one.",
                "messages",
            )
        return Prompt(tuple(ids), text, one.renderer.end_ids)

    async def feedback(self, request: Request) -> Response:
        """A thumb or an edit for an answer that was given here or by an earlier server on this workspace."""
        said = checked(FeedbackRequest, await read_body(request))
        known = await self._recorder.feedback(
            Feedback(
                exchange=said.exchange, thumb=said.thumb, edit=said.edit, author="endpoint", at=self._world.clock()
            )
        )
        if not known:
            raise ApiError(404, "exchange_not_found", "There is no such exchange; give a completion's id.", "exchange")
        return AsciiJSON({"object": "feedback", "exchange": said.exchange})


async def read_body(request: Request) -> bytes:
    """The body of a JSON request. Raises `ApiError` for another type (415), too many bytes (413), too slow (408)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "unsupported_media_type", "Send JSON, with the header Content-Type: application/json.")
    too_large = ApiError(413, "body_too_large", f"The body may have {BODY_BYTES:,} bytes. Send less.")
    if int(request.headers.get("content-length", "0")) > BODY_BYTES:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                body += part
                if len(body) > BODY_BYTES:
                    raise too_large
    except TimeoutError:
        raise ApiError(408, "body_too_slow", f"The body took more than {BODY_S:.0f} s. Send it faster.") from None
    return bytes(body)


def checked(kind: type[B], body: bytes) -> B:
    """The body as `kind`. Raises `ApiError` 400 for what is no strict JSON, an unknown field, or out of bounds."""
    try:
        strict_json.parse(body)
    except ValueError as error:
        raise ApiError(400, "invalid_json", f"The body is no strict JSON: {error}") from error
    try:
        return kind.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise invalid(error) from error


async def _say_no(_: Request, error: Exception) -> Response:
    """Every refusal in OpenAI's shape. An unread body ends the connection, so that nobody waits for the rest of it."""
    if isinstance(error, HTTPException):
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        error = ApiError(error.status_code, code, str(error.detail))
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)
    if not isinstance(error, ApiError):
        error = ApiError(500, "internal_error", "Something went wrong here. Ask again.")
    headers = {}
    if error.status == 429:
        headers["retry-after"] = "1"
    if error.status in {408, 413, 415}:
        headers["connection"] = "close"
    return AsciiJSON(error.body(), status_code=error.status, headers=headers)
