"""`HastyProtocol`: uvicorn's HTTP, with deadlines, bounded headers, and one write where three are asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_S = 10.0
HEADER_BYTES = 64 * 1024
TAKE_S = 30.0
# Each takes 3 KB, and 256 KiB that are read at once can hold 10,000.
MOST_WAITING = 64


class HastyProtocol(HttpToolsProtocol):
    """uvicorn waits for ever. This closes a connection that sends no headers for 10 s, or takes no answer for 30 s.

    Headers may have 64 KiB, and 64 questions may wait behind the one that is answered. Trailers are no headers: they
    are left out. What an answer says within one turn of the event loop goes out in one piece.
    """

    _deadline: Any = None  # while headers are awaited
    _taken_by: Any = None
    _in_body = False
    _got_on = False  # whether bytes brought an end of headers, or a part of a body
    _header_bytes = 0

    def connection_made(self, transport: Any) -> None:
        gathering: Any = Gathering(transport, self)
        self.parser = Staying(self)  # type: ignore[assignment]
        super().connection_made(gathering)
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        if self._deadline is None and not self._answering:
            self._await_headers()
        self._got_on = False
        super().data_received(data)
        self._header_bytes = 0 if self._got_on else self._header_bytes + len(data)
        if self._header_bytes > HEADER_BYTES:
            self.send_400_response(f"The headers may have {HEADER_BYTES} bytes.")

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def send_400_response(self, msg: str) -> None:
        """Say no to what cannot be read; where that would stand in or for another answer, break off instead."""
        of_this = self._in_body and not self.pipeline and not self.cycle.response_started
        if self.transport.is_closing():
            return
        if of_this or not (self._in_body or self._answering):
            super().send_400_response(msg)
        else:
            self.transport.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MOST_WAITING:
            raise ValueError("too many questions wait")
        self._got_on = True
        self._headers_are_there()
        super().on_headers_complete()
        self._in_body = True

    def on_body(self, body: bytes) -> None:
        self._got_on = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade() and _framing(self.headers):
            return  # llhttp leaves out this body: `Staying` reads it
        self._in_body = False
        super().on_message_complete()

    def eof_received(self) -> None:
        self.transport.close()  # behind what is written already: a reader may say that it will ask no more

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_are_there()
        self._is_taken()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.await_taking()

    def resume_writing(self) -> None:
        self._is_taken()
        super().resume_writing()

    def await_taking(self) -> None:
        """Break off in 30 s, unless what is written is taken by then."""
        self._is_taken()
        self._taken_by = self.loop.call_later(TAKE_S, self.transport.abort)

    def _is_taken(self) -> None:
        if self._taken_by is not None:
            self._taken_by.cancel()
            self._taken_by = None

    def _await_headers(self) -> None:
        self._deadline = self.loop.call_later(HEADER_S, self.transport.close)

    def _headers_are_there(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Staying:
    """A parser that stays with HTTP/1.1 whatever a request wants to upgrade to, as the clients of Java and curl ask.

    llhttp takes what follows such headers for another protocol: it says that the message is over, and would read its
    body as the next request. So the body goes to a parser of its own, behind headers that want nothing.
    """

    def __init__(self, protocol: HastyProtocol) -> None:
        self._protocol = protocol
        self._parser = _lenient(protocol)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> None:
        """Raises `HttpParserError` for what is no HTTP."""
        while data:
            try:
                self._parser.feed_data(data)
                return
            except HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                framing = _framing(self._protocol.headers)
                self._parser = _lenient(Behind(self._protocol) if framing else self._protocol)
                if framing:
                    self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % framing)


class Behind:
    """What a parser of a body says, without the headers that it was given for it; and of all that follows."""

    def __init__(self, protocol: HastyProtocol) -> None:
        self._protocol = protocol
        self._heads = 0
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete

    def on_message_begin(self) -> None:
        self._heads += 1
        if self._heads > 1:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self._heads > 1:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._heads > 1:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._heads > 1:
            self._protocol.on_headers_complete()


def _lenient(protocol: Any) -> HttpRequestParser:
    """As uvicorn makes one: it answers what stands in front of bytes behind a `Connection: close`."""
    parser = HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def _framing(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Those lines of the headers that say that there is a body, and where it ends."""
    told = (b"content-length", b"transfer-encoding")
    return b"".join(b"%b: %b\r\n" % (name, value) for name, value in headers if name in told)


class Gathering:
    """A transport that sends what it was given within one turn of the loop at once.

    The head of an answer, its first event and its first piece are three writes. Each is a call of the kernel that wakes
    the reader, which on two cores that a model fills takes longer than everything else that a piece needs.
    """

    def __init__(self, transport: Any, protocol: HastyProtocol) -> None:
        self._transport = transport
        self._protocol = protocol
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._protocol.loop.call_soon(self._flush)
        self._parts.append(data)

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts and not self._transport.is_closing():
            self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))

    def close(self) -> None:
        self._flush()
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._protocol.await_taking()
