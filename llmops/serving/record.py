"""`Recorder`: exchanges and feedback into the ledger, one after the other, off the thread that answers."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor

from llmops.core.context import Surroundings
from llmops.core.serving import Exchange, Feedback
from llmops.serving.log import Log
from llmops.serving.metrics import Metrics
from llmops.serving.redact import redact
from llmops.store.ledger import Ledger


class Recorder:
    """One writer thread with a queue. `close` returns when everything is written.

    Where there are `metrics` and a `log`, they are told of every exchange too; neither of them sees a text.
    """

    def __init__(
        self,
        ledger: Ledger,
        world: Surroundings,
        keep_text: bool,
        metrics: Metrics | None = None,
        log: Log | None = None,
    ) -> None:
        self._ledger = ledger
        self._world = world
        self._keep_text = keep_text
        self._metrics = metrics
        self._log = log
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="ledger")

    def exchange(self, exchange: Exchange) -> None:
        """Queue an answer: numbers only, unless text is kept, and then redacted.

        One in the shadow was given to nobody, so it is on record and nowhere else.
        """
        if self._metrics is not None and exchange.shadow is None:
            self._metrics.exchange(exchange)
        self._writer.submit(self._write, exchange).add_done_callback(self._complain)

    async def find(self, id: str) -> Exchange | None:
        """The exchange with this id, if it is on record; queued ones are written before."""
        found = await asyncio.wrap_future(self._writer.submit(self._ledger.read, Exchange, None, id))
        return found[0] if found else None

    async def feedback(self, feedback: Feedback) -> bool:
        """Write what a person said. False where no such exchange is on record; queued ones are written before."""
        return await asyncio.wrap_future(self._writer.submit(self._write_feedback, feedback))

    def close(self) -> None:
        """Write what is queued, then stop."""
        self._writer.shutdown(wait=True)

    def _write(self, exchange: Exchange) -> None:
        if self._keep_text:
            messages = tuple(message.replace(content=redact(message.content)) for message in exchange.messages)
            kept = exchange.replace(messages=messages, answer=redact(exchange.answer or ""))
        else:
            kept = exchange.replace(messages=(), answer=None)
        if self._log is not None and exchange.shadow is None:
            self._log.exchange(exchange)
        self._ledger.append(kept, exchange.version.split(":")[0], exchange.id)

    def _write_feedback(self, feedback: Feedback) -> bool:
        name = self._ledger.name_of(Exchange, feedback.exchange)
        if name is None:
            return False
        edit = None if feedback.edit is None else redact(feedback.edit)
        self._ledger.append(feedback.replace(edit=edit), name, feedback.exchange)
        return True

    def _complain(self, written: Future[None]) -> None:
        error = written.exception()
        if error is not None:
            self._world.say(f"An exchange could not be written to the ledger: {error}")
