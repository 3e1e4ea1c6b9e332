"""`ChatSession`: a version to talk to in this process; its answers are exchanges in the ledger, as the endpoint's."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Literal

from llmops.core.context import Surroundings
from llmops.core.dataset import Message
from llmops.core.serving import Exchange, Sampling
from llmops.core.value import digest
from llmops.serving.chat import stream_reply
from llmops.serving.record import Recorder
from llmops.serving.roster import Served
from llmops.store.ledger import Ledger


class ChatSession:
    """Answers as `version` does when it is served: the same engine, the same rendering."""

    def __init__(self, served: Served, ledger: Ledger, world: Surroundings) -> None:
        self.version = served.version
        self.last: Exchange | None = None
        self._served = served
        self._ledger = ledger
        self._world = world

    def say(
        self, messages: Sequence[Message], sampling: Sampling | None = None, keep_text: bool = False
    ) -> Iterator[str]:
        """The answer in pieces. Once it ended (or was broken off), `last` is its exchange, written to the ledger."""
        chosen, messages = sampling or Sampling(), self._served.as_trained(messages)
        engine, renderer = self._served.engine, self._served.renderer
        ids = renderer.prompt_ids(messages) if renderer else []
        began, first, heard = time.perf_counter(), None, []
        finish: Literal["stop", "length", "cancelled", "error"] = "cancelled"
        try:
            for piece in stream_reply(engine, renderer, messages, chosen):
                first = first or time.perf_counter() - began
                heard.append(piece)
                yield piece
            finish = "stop"
        except Exception:
            finish = "error"
            raise
        finally:
            answer = "".join(heard)
            tokens = len(renderer.content_ids(answer)) if renderer else 1
            self.last = Exchange(
                id=f"chat-{uuid.uuid4().hex}",
                version=self.version,
                at=self._world.clock(),
                prompt_sha256=digest(ids or messages[-1].content),
                sampling=chosen,
                prompt_tokens=len(ids),
                answer_tokens=tokens,
                first_token_s=first,
                total_s=time.perf_counter() - began,
                finish="length" if finish == "stop" and tokens >= chosen.max_tokens else finish,
                messages=messages,
                answer=answer,
            )
            recorder = Recorder(self._ledger, self._world, keep_text)
            recorder.exchange(self.last)
            recorder.close()

    def close(self) -> None:
        """Give the engine's memory and threads back."""
        self._served.engine.close()
