"""`Gate`: so many answers at once, so many waiting behind them, and the next one is sent away."""

from __future__ import annotations

import asyncio

from llmops.serving.wire import ApiError


class Gate:
    """Admits `slots` requests to the engine and lets `queue` more wait, first come, first served."""

    def __init__(self, slots: int, queue: int) -> None:
        self._slots = asyncio.Semaphore(slots)
        self._room = slots + queue
        self.inside = 0

    def enter(self) -> Ticket:
        """A place in the queue. Raises `ApiError` 429 where it is full."""
        if self.inside >= self._room:
            raise ApiError(429, "rate_limit_exceeded", "The queue is full. Ask again in a second.")
        self.inside += 1
        return Ticket(self, self._slots)


class Ticket:
    """A place in the queue, later a slot. `leave` gives both back and may be called twice."""

    def __init__(self, gate: Gate, slots: asyncio.Semaphore) -> None:
        self._gate = gate
        self._slots = slots
        self._has_slot = False
        self._gone = False

    async def slot(self) -> None:
        """Wait for a slot of the engine."""
        await self._slots.acquire()
        self._has_slot = True

    def leave(self) -> None:
        if self._gone:
            return
        self._gone = True
        self._gate.inside -= 1
        if self._has_slot:
            self._slots.release()
