"""`ask`: one question to the engine beside the gateway, on a connection of its own, and its answer as it comes.

All that is needed of HTTP here is a request with a body, a status, and the parts of a body. A client library for all of
HTTP took half a millisecond a question and a task more a part, on cores that the engine's threads fill.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httptools

CONNECT_S = 10


@asynccontextmanager
async def ask(door: str, path: str, headers: Mapping[str, str], body: bytes) -> AsyncIterator[Reply]:
    """POST a JSON body to `door` (`http://host:port`, or the path of a Unix socket); leaving breaks the connection off.

    Raises `OSError` where nobody listens.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(CONNECT_S):
        if door.startswith("/"):
            transport, reply = await loop.create_unix_connection(Reply, door)
        else:
            address = urlsplit(door)
            transport, reply = await loop.create_connection(Reply, address.hostname or "", address.port or 80)
    try:
        lines = {"Host": "localhost", "Content-Type": "application/json", "Content-Length": len(body), **headers}
        head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        transport.write(head.encode("latin-1") + b"\r\n" + body)
        yield reply
    finally:
        transport.abort()


class Reply(asyncio.Protocol):
    """An answer as it comes. It is taken from the engine whether or not anybody reads it here."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._status = 0
        self._parts: list[bytes] = []
        self._over = False
        self._broken = False
        self._news = asyncio.Event()

    async def status(self) -> int:
        """Raises `ConnectionError` where the engine broke off before it said one."""
        while not self._status:
            await self._wait()
        return self._status

    async def parts(self) -> AsyncIterator[bytes]:
        """The body, each time all of it that is there. Raises `ConnectionError` where the engine broke off."""
        while self._parts or not self._over:
            if self._parts:
                parts, self._parts = self._parts, []
                yield b"".join(parts)
            else:
                await self._wait()

    async def body(self) -> bytes:
        """All of the body. Raises as `parts` does."""
        return b"".join([part async for part in self.parts()])

    async def _wait(self) -> None:
        if self._broken:
            raise ConnectionError("the connection ended in the middle of an answer")
        self._news.clear()
        await self._news.wait()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._broken = True
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._broken = True
        self._news.set()

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        self._over = True
