"""`build_app`: the OpenAI-compatible endpoint. The training renderer renders and tokenises; engines see token ids."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from llmops.core.context import Surroundings
from llmops.core.dataset import Message
from llmops.core.serving import Exchange, Feedback
from llmops.serving.admission import Ticket
from llmops.serving.answer import Answer, Completion, Desk, StreamedResponse, fresh_id, unless_gone, whole_response
from llmops.serving.classify import Classification, labels_of
from llmops.serving.constraint import Constraint, constraint_of
from llmops.serving.describe import openapi
from llmops.serving.engine import Prompt
from llmops.serving.intake import asked, say_no
from llmops.serving.log import Log
from llmops.serving.metrics import Counted, Metrics
from llmops.serving.prepare import Tokeniser, able, plain
from llmops.serving.record import Recorder
from llmops.serving.replies import ChatShape, TextShape
from llmops.serving.requests import Asked, ChatRequest, ClassifyRequest, CompletionRequest, FeedbackRequest
from llmops.serving.roster import Chosen, PromptRenderer, Roster, Served
from llmops.serving.security import LOOPBACK, Guard, Rules, sha256
from llmops.serving.shadow import Again, Job, Shadows
from llmops.serving.tools import ToolUse, tool_use
from llmops.serving.watch import Successor, keep_watching
from llmops.serving.wire import ApiError, AsciiJSON
from llmops.store.ledger import Ledger

__all__ = ["OPEN_PATHS", "Gateway", "PromptRenderer", "ServeSettings", "Served", "build_app"]

OPEN_PATHS = frozenset({"/healthz"})
SEEDS = 2**31


@dataclass(frozen=True)
class ServeSettings:
    """How to serve. Another host than loopback needs a token and an allowed host; port 0 is any free one.

    `deadline_s` is the longest that one answer may take, its time in the queue included; `body_s` that a body may.
    """

    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    keep_text: bool = False
    queue: int = 64
    deadline_s: float = 600.0
    body_s: float = 30.0
    log: Path | None = None


def build_app(
    served: Sequence[Served],
    ledger: Ledger,
    settings: ServeSettings,
    world: Surroundings,
    successor: Successor | None = None,
) -> Starlette:
    """The endpoint as an ASGI app behind its guard. Its lifespan closes the recorder, not the engines it was given.

    `successor` is asked once a second who answers now, so that a promotion or a canary takes effect while it runs.
    """
    gateway = Gateway(served, ledger, settings, world)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        work = [asyncio.ensure_future(gateway.shadows.run())]
        if successor is not None:
            watch = keep_watching(gateway.roster, successor, world, gateway.judged)
            work.append(asyncio.ensure_future(watch))
        try:
            yield
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            await gateway.roster.drained()
            gateway.close()

    rules = Rules(
        token_sha256=None if settings.token is None else sha256(settings.token),
        hosts=LOOPBACK | {host.lower() for host in settings.allowed_hosts},
        open_paths=OPEN_PATHS,
    )
    return Starlette(
        routes=[Route(path, answer, methods=[method]) for (path, method), answer in gateway.routes().items()],
        middleware=[Middleware(Counted, metrics=gateway.metrics), Middleware(Guard, rules=rules)],
        exception_handlers=dict.fromkeys((ApiError, HTTPException, ClientDisconnect, Exception), say_no),
        lifespan=lifespan,
    )


@dataclass(frozen=True)
class Question:
    """What a request asks, whoever answers it: its prompts as a version reads them, and what is kept as its text."""

    kind: str
    ask: ChatRequest | CompletionRequest
    prompts: int
    render: Callable[[Served], Awaitable[list[Prompt]]]
    text: Callable[[Served], tuple[Message, ...]]
    repeats: bool  # whether it can be asked again in the shadow


class Gateway:
    """The routes, and what they share: the roster with a queue per engine, one tokenising thread, one recorder."""

    def __init__(self, served: Sequence[Served], ledger: Ledger, settings: ServeSettings, world: Surroundings) -> None:
        self.roster = Roster(served, settings.queue)
        self.metrics = Metrics(frozenset(path for path, _ in self.routes()))
        self.metrics.watch("running", "Answers under way.", lambda: sum(gate.running for gate in self.roster.gates))
        self.metrics.watch("waiting", "Requests in the queue.", lambda: sum(gate.waiting for gate in self.roster.gates))
        self._log = None if settings.log is None else Log(settings.log)
        self._recorder = Recorder(ledger, world, settings.keep_text, self.metrics, self._log)
        self._desk = Desk(self._recorder.exchange, world, settings.deadline_s)
        self.shadows = Shadows(self.roster, self._desk, self.metrics)
        self.judged: set[str] = set()
        # Signs of conversations mean nothing outside this process: a user's name cannot be guessed back out of one. So
        # a conversation that outlives a restart counts as two.
        self._key = secrets.token_bytes(16)
        self._tokeniser = Tokeniser()
        self._body_s = settings.body_s
        self._since = int(world.clock().timestamp())

    def routes(self) -> dict[tuple[str, str], Callable[..., object]]:
        """Every route, by path and method."""
        return {
            ("/healthz", "GET"): self.healthz,
            ("/metrics", "GET"): self.scraped,
            ("/openapi.json", "GET"): self.described,
            ("/v1/models", "GET"): self.models,
            ("/v1/chat/completions", "POST"): self.chat,
            ("/v1/completions", "POST"): self.complete,
            ("/v1/classify", "POST"): self.classify,
            ("/v1/embeddings", "POST"): self.embeddings,
            ("/v1/feedback", "POST"): self.feedback,
        }

    def close(self) -> None:
        """Write what is queued for the ledger, and stop the threads."""
        self._tokeniser.close()
        self._recorder.close()
        if self._log is not None:
            self._log.close()

    async def healthz(self, _: Request) -> Response:
        """Open to everyone: says only that somebody answers."""
        return AsciiJSON({"status": "ok"})

    async def scraped(self, _: Request) -> Response:
        """What Prometheus asks."""
        return Response(self.metrics.page(), media_type=self.metrics.content_type)

    async def described(self, _: Request) -> Response:
        """The endpoint for machines."""
        return AsciiJSON(openapi())

    async def models(self, _: Request) -> Response:
        """Every name that a request may ask for."""
        about = {"object": "model", "created": self._since, "owned_by": "llmops"}
        return AsciiJSON({"object": "list", "data": [{"id": name, **about} for name in self.roster.names]})

    async def embeddings(self, _: Request) -> Response:
        """There are none: these models were not trained for them."""
        why = "There are no embeddings here: a model tuned to answer gives poor ones. Use a model made for them."
        raise ApiError(404, "embeddings_not_served", why)

    async def chat(self, request: Request) -> Response:
        """Answers to a conversation, streamed or whole."""
        ask = await asked(ChatRequest, request, self._body_s)
        wanted = constraint_of(ask.response_format)

        def means(one: Served) -> tuple[ToolUse | None, Constraint | None]:
            tools = tool_use(ask, one.tools)
            held = wanted or (tools.constraint if tools else None)
            able(one, held, ask.likeliest)
            return tools, held

        chosen = self.roster.choose(ask.model, ask.conversation, means)
        tools, held = means(chosen.one)

        async def render(one: Served) -> list[Prompt]:
            return [await self._tokeniser.chat(one, ask, tools, held)]

        def text(one: Served) -> tuple[Message, ...]:  # what tools say is no text to train on as it stands
            return () if tools else one.as_trained(plain(ask))

        question = Question("chatcmpl", ask, 1, render, text, repeats=tools is None)
        answers, holds = await self._answers(question, chosen)
        shape = ChatShape(answers[0].id, ask.model, chosen.one.version, self._now())
        return await self._respond(Completion(answers, shape, self._desk.deadline_s, tools, holds), ask, request)

    async def complete(self, request: Request) -> Response:
        """Running text, gone on with, streamed or whole."""
        ask = await asked(CompletionRequest, request, self._body_s)
        held = constraint_of(ask.response_format)
        chosen = self.roster.choose(ask.model, ask.conversation, lambda one: able(one, held, ask.likeliest))

        async def render(one: Served) -> list[Prompt]:
            return [await self._tokeniser.running_text(one, text, ask, held) for text in ask.prompts]

        prompts = len(ask.prompts)
        question = Question("cmpl", ask, prompts, render, lambda one: (), repeats=prompts == 1)
        answers, holds = await self._answers(question, chosen)
        shape = TextShape(answers[0].id, ask.model, chosen.one.version, self._now())
        return await self._respond(Completion(answers, shape, self._desk.deadline_s, None, holds), ask, request)

    async def _answers(self, question: Question, chosen: Chosen) -> tuple[list[Answer], ExitStack]:
        """An answer for each choice of each prompt, all in the queue; and what to let go of when they are over."""
        one, ask = chosen.one, question.ask
        desk = self._desk_of(chosen, ask.conversation, self._again(question) if question.repeats else None)
        with ExitStack() as holds:
            tickets = self._enter(one, question.prompts * ask.choices, holds)
            rendered = [prompt for prompt in await question.render(one) for _ in range(ask.choices)]
            sampling = ask.sampling(secrets.randbelow(SEEDS))
            id = fresh_id(question.kind)
            answers = [
                Answer(
                    f"{id}.{number}" if number else id,
                    one,
                    prompt,
                    # The same seed would give the same answer again.
                    sampling.replace(seed=(sampling.seed + number % ask.choices) % SEEDS),
                    ticket,
                    desk,
                )
                for number, (prompt, ticket) in enumerate(zip(rendered, tickets, strict=True))
            ]
            for answer in answers:
                answer.messages = question.text(one)
            return answers, holds.pop_all()

    def _again(self, question: Question) -> Again:
        """How a question is asked in the shadow."""

        async def again(other: Served, given: Exchange, ticket: Ticket, desk: Desk) -> None:
            (prompt,) = await question.render(other)
            answer = Answer(fresh_id(question.kind), other, prompt, given.sampling, ticket, desk)
            answer.messages = question.text(other)
            async for _ in answer.pieces():
                pass

        return again

    def _enter(self, one: Served, places: int, holds: ExitStack) -> list[Ticket]:
        """Places in the queue of a version, kept until `holds` lets go. What is asked in the shadow makes way."""
        holds.enter_context(self.roster.using(one))
        tickets = self.roster.gate(one).enter(places)
        for ticket in tickets:
            holds.callback(ticket.leave)
        self.shadows.make_way()
        return tickets

    def _desk_of(self, chosen: Chosen, conversation: str, again: Again | None) -> Desk:
        """Where the answers of a request are recorded.

        One that was drawn for carries the sign of its conversation; one that has come to its end is asked again where
        there is a shadow.
        """
        trial, shadow = chosen.one.trial, chosen.shadow
        if not chosen.drawn and shadow is None:
            return self._desk
        sign = blake2b(conversation.encode("utf-8", "surrogatepass"), digest_size=16, key=self._key).hexdigest()

        def record(exchange: Exchange) -> None:
            self._recorder.exchange(exchange.replace(conversation=sign) if chosen.drawn else exchange)
            if trial and shadow and again and exchange.finish in ("stop", "length"):
                self.shadows.offer(Job(trial, exchange, again))

        return replace(self._desk, record=record)

    async def _respond(self, completion: Completion, ask: Asked, request: Request) -> Response:
        if ask.stream:
            return StreamedResponse(completion, ask.wants_usage)
        return await whole_response(completion, request)

    def _now(self) -> int:
        return int(self._desk.world.clock().timestamp())

    async def classify(self, request: Request) -> Response:
        """The label of each text, with its probability."""
        ask = await asked(ClassifyRequest, request, self._body_s)
        chosen = self.roster.choose(ask.model, ask.conversation, labels_of)

        async def label(one: Served, texts: Sequence[str], tickets: Sequence[Ticket], desk: Desk) -> Response:
            labels = labels_of(one)
            size = sum(map(len, texts))  # many short ones hold the event loop as long as a long one
            prompts = [await self._tokeniser.ids(one, size, labels.ids, text, field="input") for text in texts]
            return await Classification(one, labels, tickets, desk).respond(texts, prompts, ask.abstain_below)

        async def again(other: Served, given: Exchange, ticket: Ticket, desk: Desk) -> None:
            await label(other, [given.messages[0].content], [ticket], desk)

        with ExitStack() as holds:
            tickets = self._enter(chosen.one, len(ask.texts), holds)
            work = label(chosen.one, ask.texts, tickets, self._desk_of(chosen, ask.conversation, again))
            return await unless_gone(request.receive, work) or Response(status_code=499)

    async def feedback(self, request: Request) -> Response:
        """A thumb, an edit or a label for an answer that was given here or by an earlier server on this workspace."""
        said = await asked(FeedbackRequest, request, self._body_s)
        exchange = await self._recorder.find(said.exchange)
        if exchange is None or exchange.shadow is not None:
            raise ApiError(404, "exchange_not_found", "There is no such exchange; give an answer's id.", "exchange")
        if said.label is not None:
            self.roster.check_label(exchange.version, said.label)
        await self._recorder.feedback(
            Feedback(
                exchange=said.exchange,
                thumb=said.thumb,
                edit=said.edit if said.label is None else said.label,
                author="endpoint",
                at=self._desk.world.clock(),
            )
        )
        if exchange.conversation is not None:
            self.judged.add(exchange.version.split(":")[0])
        return AsciiJSON({"object": "feedback", "exchange": said.exchange})
