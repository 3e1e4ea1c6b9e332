"""`Gate`: so many answers at once, so many waiting behind them, and the next one is sent away."""

from __future__ import annotations

import asyncio
import math

from llmops.serving.wire import ApiError

# Until an answer has been timed, a turn is taken to last this long.
FIRST_GUESS_S = 1.0
LONGEST_ADVICE_S = 60


class Gate:
    """Admits `slots` requests to the engine and lets `queue` more wait, first come, first served."""

    def __init__(self, slots: int, queue: int) -> None:
        self._slots = asyncio.Semaphore(slots)
        self._room = slots + queue
        self._turn_s = FIRST_GUESS_S
        self.inside = 0
        self.running = 0

    @property
    def waiting(self) -> int:
        return self.inside - self.running

    def enter(self, places: int = 1) -> list[Ticket]:
        """So many places in the queue, all or none. Raises `ApiError` 429, with when to ask again, where it is full."""
        if self.inside + places > self._room:
            raise ApiError(
                429,
                "rate_limit_exceeded",
                f"The queue is full. Ask again in {self.retry_after_s} s.",
                retry_after_s=self.retry_after_s,
            )
        self.inside += places
        return [Ticket(self, self._slots) for _ in range(places)]

    @property
    def retry_after_s(self) -> int:
        """When as many places will be free as there are slots, by how long a turn took of late."""
        return max(1, min(LONGEST_ADVICE_S, math.ceil(self._turn_s)))

    def timed(self, turn_s: float) -> None:
        """A turn has ended: how long it held its slot. The last ten or so weigh most."""
        self._turn_s += 0.1 * (turn_s - self._turn_s)


class Ticket:
    """A place in the queue, later a slot. `leave` gives both back and may be called twice."""

    def __init__(self, gate: Gate, slots: asyncio.Semaphore) -> None:
        self._gate = gate
        self._slots = slots
        self._since: float | None = None
        self._gone = False

    async def slot(self) -> None:
        """Wait for a slot of the engine."""
        await self._slots.acquire()
        self._since = asyncio.get_running_loop().time()
        self._gate.running += 1

    def leave(self) -> None:
        if self._gone:
            return
        self._gone = True
        self._gate.inside -= 1
        if self._since is not None:
            self._gate.running -= 1
            self._gate.timed(asyncio.get_running_loop().time() - self._since)
            self._slots.release()
