"""Talking to versions: engines that stay loaded between questions, and replies that grow in threads of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from llmops.core.dataset import Message
from llmops.core.errors import LlmopsError
from llmops.core.serving import Sampling
from llmops.store.workspace import Workspace

GLANCE_S = 0.08  # between two looks at a growing reply: fast enough to read along, slow enough for a small machine
MOST_ENGINES = 3  # loaded at once; the one that was idle for longest goes


@dataclass
class Reply:
    """An answer as it grows; the thread that makes it writes, the page reads."""

    ref: str
    text: str = ""
    exchange: str = ""
    error: LlmopsError | None = None
    began: bool = False
    done: bool = False
    cancelled: bool = False


@dataclass
class Engine:
    """A loaded chat session. One question at a time, so that `last` is the exchange of the one who asked."""

    chat: Any
    turn: threading.Lock = field(default_factory=threading.Lock)
    used: float = 0.0


class Engines:
    """The chat sessions of this app, loaded on demand."""

    def __init__(self, at: Workspace) -> None:
        self._at = at
        self._engines: dict[str, Engine] = {}
        self._changing = threading.Lock()

    @contextmanager
    def hold(self, ref: str) -> Iterator[Any]:
        """The chat session of a version or base, for one question; waits where somebody else is asking it."""
        from llmops import pipeline

        with self._changing:
            if ref not in self._engines:
                self._make_room()
                self._engines[ref] = Engine(pipeline.chat(ref, self._at))
            engine = self._engines[ref]
            engine.used = time.monotonic()
        with engine.turn:
            yield engine.chat

    def _make_room(self) -> None:
        idle = sorted((e.used, ref) for ref, e in self._engines.items() if not e.turn.locked())
        for _, ref in idle[: max(0, len(self._engines) - MOST_ENGINES + 1)]:
            self._engines.pop(ref).chat.close()

    def close(self) -> None:
        """End every session."""
        with self._changing:
            for engine in self._engines.values():
                engine.chat.close()
            self._engines.clear()

    def ask(self, ref: str, messages: Sequence[Message], sampling: Sampling, keep_text: bool) -> Reply:
        """Start an answer in a thread and return it at once, still growing."""
        reply = Reply(ref)

        def work() -> None:
            try:
                with self.hold(ref) as chat, closing(chat.say(messages, sampling, keep_text=keep_text)) as pieces:
                    reply.began = True
                    for piece in pieces:
                        reply.text += piece
                        if reply.cancelled:
                            break
                    else:
                        reply.exchange = chat.last.id
            except LlmopsError as error:
                reply.error = error
            except Exception as error:
                # Whatever an engine raises ends this answer, not the page; the log has the rest.
                self._at.world.say(f"{ref} failed: {error!r}")
                reply.error = LlmopsError(
                    f"{ref} could not answer ({type(error).__name__})", "look at the app's terminal"
                )
            finally:
                reply.done = True

        threading.Thread(target=work, daemon=True, name=f"answer-{ref}").start()
        return reply


def watch(replies: Sequence[Reply]) -> Iterator[None]:
    """Yield now and then until every reply is done; a reader that leaves cancels them."""
    try:
        seen: list[tuple[int, bool]] = []
        while not all(reply.done for reply in replies):
            now = [(len(reply.text), reply.began) for reply in replies]
            if now != seen:
                seen = now
                yield
            time.sleep(GLANCE_S)
    finally:
        for reply in replies:
            reply.cancelled = True
