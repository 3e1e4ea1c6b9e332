"""What the proofs of serving share: an endpoint answered by a script, and a quick client for many connections."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llmops.core.context import Surroundings
from llmops.core.dataset import Message
from llmops.core.errors import LlmopsError
from llmops.core.serving import Sampling
from llmops.serving.engine import Engine, Piece, Prompt, ScriptedEngine
from llmops.serving.roster import PromptRenderer
from llmops.serving.serve import Served, ServeSettings, running
from llmops.serving.watch import Successor
from llmops.store.ledger import Ledger

Json = dict[str, Any]
TOKEN = "a-token-for-proofs-only-0123456789"
CHAT = "/v1/chat/completions"
LINE_BYTES = 1024 * 1024


class Letters:
    """A renderer without a model: a token is a character, and 0 to 2 are control tokens."""

    end_ids = frozenset({2})

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        return [token for message in messages for token in (1, *self.content_ids(message.content), 2)]

    def content_ids(self, text: str) -> list[int]:
        return [ord(letter) + 3 for letter in text]

    def text_ids(self, text: str) -> list[int]:
        return [1, *self.content_ids(text)]


def echo(prompt: Prompt) -> Iterable[str]:
    """The last message, letter by letter."""
    return list(prompt.text)


class Closable(ScriptedEngine):
    """An engine that, once closed, breaks off whatever it still says."""

    def __init__(self, version: str) -> None:
        super().__init__(lambda prompt: [version] * 20, pause_s=0.01, slots=16)
        self.closed = False

    async def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Piece]:
        async for piece in super().stream(prompt, sampling):
            if self.closed:
                raise LlmopsError("The engine is closed.", "Start it again.")
            yield piece

    def close(self) -> None:
        self.closed = True


@dataclass(frozen=True)
class Site:
    """A running endpoint and what stands behind it."""

    url: str
    ledger: Ledger
    engine: ScriptedEngine

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@contextmanager
def site(
    folder: Path,
    script: Callable[[Prompt], Iterable[str]] = echo,
    pause_s: float = 0.0,
    slots: int = 8,
    queue: int = 64,
    renderer: PromptRenderer | None = None,
) -> Iterator[Site]:
    """An endpoint for `tone:2`, answered by `script`."""
    engine = ScriptedEngine(script, pause_s, slots, context_tokens=200_000)
    with endpoint([_served(engine, renderer or Letters())], folder, ServeSettings(token=TOKEN, queue=queue)) as found:
        yield Site(*found, engine)


def _served(engine: Engine, renderer: PromptRenderer) -> Served:
    return Served("tone:2", ("tone",), engine, renderer)


@contextmanager
def endpoint(
    served: Sequence[Served], folder: Path, settings: ServeSettings, successor: Successor | None = None
) -> Iterator[tuple[str, Ledger]]:
    """An endpoint for anything, with a ledger of its own: (its address, the ledger)."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        ledger = Ledger(f"sqlite:///{scratch}/ledger.db")
        with running(served, ledger, settings, Surroundings(), successor) as url:
            yield url, ledger


def chat_body(text: str, stream: bool = True, **more: Any) -> Json:
    """The body of a question."""
    return {"model": "tone", "messages": [{"role": "user", "content": text}], "stream": stream, **more}


class Line:
    """One connection. As little of HTTP as the proofs need, because a full client would cost more than the endpoint."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._length: int | None = None

    @classmethod
    async def open(cls, url: str) -> Line:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=LINE_BYTES)
        return cls(reader, writer)

    def send(self, method: str, path: str, body: Json | None = None, token: str | None = TOKEN) -> None:
        """Send a request; the path goes as it is, dots and all."""
        self.send_raw(method, path, None if body is None else json.dumps(body).encode(), token)

    def send_raw(self, method: str, path: str, body: bytes | None, token: str | None = TOKEN) -> None:
        """The same with a body that need not be JSON."""
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body or b'')}"]
        lines += ["Content-Type: application/json"] if body is not None else []
        lines += [f"Authorization: Bearer {token}"] if token else []
        self.writer.write("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + (body or b""))

    async def head(self) -> int:
        """The status. Reads up to where the body begins."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        told = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        self._length = int(told[0].split(b":")[1]) if told else None
        return int(head.split(b" ", 2)[1])

    async def body(self) -> bytes:
        """The body, of known length or in chunks."""
        if self._length is not None:
            return await self.reader.readexactly(self._length)
        parts = []
        while size := int(await self.reader.readline(), 16):
            parts.append(await self.reader.readexactly(size))
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return b"".join(parts)

    async def close(self) -> None:
        self.writer.close()
        await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)


async def ask(url: str, body: Json, path: str = CHAT) -> tuple[int, bytes]:
    """(status, body) of one request on a connection of its own."""
    line = await Line.open(url)
    try:
        line.send("POST", path, body)
        return await line.head(), await line.body()
    finally:
        await line.close()


def streamed_text(raw: bytes) -> str | None:
    """The text of a stream of events; None where it did not come to its end as OpenAI's clients expect it."""
    frames = raw.decode("ascii").split("\n\n")
    if frames[-2:] != ["data: [DONE]", ""]:
        return None
    events = [json.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]
    if any("error" in one for one in events) or events[-1]["choices"][0]["finish_reason"] is None:
        return None
    return "".join(one["choices"][0]["delta"].get("content", "") for one in events)


def whole_text(raw: bytes) -> str:
    """The text of an answer that was not streamed."""
    return str(json.loads(raw)["choices"][0]["message"]["content"])
