"""`Shadows`: what is asked of a challenger a second time, when nobody waits, so that its answers can be compared."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from llmops.core.canary import Canary
from llmops.core.serving import Exchange, Shadowed
from llmops.serving.admission import Gate, Ticket
from llmops.serving.answer import Desk
from llmops.serving.metrics import Metrics
from llmops.serving.roster import Roster, Served
from llmops.serving.wire import ApiError

WAITING = 32
LOOK_EVERY_S = 0.02
# Readers who ask one thing after the other leave pauses shorter than this. What is begun in one is broken off at once,
# and llama.cpp ends the batch that it is at: 256 tokens of a prompt.
QUIET_S = 0.2
ENDED = ("stop", "length")
# Asks a version what an exchange asked, with a ticket, and has the answer recorded at a desk.
Again = Callable[[Served, Exchange, Ticket, Desk], Awaitable[object]]


@dataclass(frozen=True)
class Job:
    """An answer that was given, and how to ask its question again."""

    trial: Canary
    given: Exchange
    again: Again


class Shadows:
    """A short queue of questions. One at a time is asked, only when no request has been in any queue for a moment.

    One that comes meanwhile goes first: the answer in the shadow is broken off, and asked for again later. Where the
    queue is full, the newest is dropped, and counted: a busy endpoint has few shadows.
    """

    def __init__(self, roster: Roster, desk: Desk, metrics: Metrics) -> None:
        self._roster = roster
        self._desk = desk
        self._metrics = metrics
        self._jobs: deque[Job] = deque()
        self._some = asyncio.Event()
        self._gate = Gate(1, 0)
        self._asking: asyncio.Task[None] | None = None
        self._busy_at = 0.0  # on the loop's clock: when somebody was last seen who asked

    def offer(self, job: Job) -> None:
        """Ask it some time, or drop it."""
        if len(self._jobs) >= WAITING:
            self._metrics.shadow("dropped")
            return
        self._jobs.append(job)
        self._some.set()

    def make_way(self) -> None:
        """A request comes in: break off what is being asked."""
        self._busy_at = asyncio.get_running_loop().time()
        if self._asking is not None:
            self._asking.cancel()

    async def run(self) -> None:
        """Ask one after the other, until cancelled."""
        while True:
            await self._quiet()
            job = self._jobs.popleft()
            self._asking = asyncio.ensure_future(self._ask(job))
            try:
                await asyncio.wait({self._asking})
            except asyncio.CancelledError:
                self._asking.cancel()
                await asyncio.gather(self._asking, return_exceptions=True)
                raise
            if self._asking.cancelled():
                self._jobs.appendleft(job)
            elif error := self._asking.exception():
                self._metrics.shadow("failed")
                self._desk.world.say(f"{job.trial.refs[1]} failed in the shadow of {job.given.id}: {error}")
            self._asking = None

    async def _quiet(self) -> None:
        """Wait until there is something to ask, and nobody who asks."""
        while not self._jobs:
            self._some.clear()
            await self._some.wait()
        now = asyncio.get_running_loop().time
        while True:
            if any(gate.inside for gate in self._roster.gates):
                self._busy_at = now()
            if now() >= self._busy_at + QUIET_S:
                return
            await asyncio.sleep(LOOK_EVERY_S)

    async def _ask(self, job: Job) -> None:
        tried = self._roster.tried(job.trial)
        if tried is None:  # its canary is over
            return
        heard: list[Exchange] = []
        desk = replace(self._desk, record=heard.append)
        (ticket,) = self._gate.enter()
        with self._roster.using(tried):
            try:
                with suppress(ApiError, TimeoutError):  # said where they arise; what was heard tells the rest
                    async with asyncio.timeout(desk.deadline_s):
                        await job.again(tried, job.given, ticket, desk)
            finally:
                ticket.leave()
        for one in heard:
            same = one.finish in ENDED and one.answer == job.given.answer
            self._desk.record(one.replace(shadow=Shadowed(of=job.given.id, same=same)))
            self._metrics.shadow("same" if same else "different" if one.finish in ENDED else "failed")
        if not heard:
            self._metrics.shadow("failed")
