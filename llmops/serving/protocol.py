"""`HastyProtocol`: uvicorn's HTTP, with deadlines, bounded headers, and one write where three are asked for."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_S = 10.0
HEADER_BYTES = 64 * 1024
TAKE_S = 30.0


class HastyProtocol(HttpToolsProtocol):
    """uvicorn waits for ever. This closes a connection that sends no headers for 10 s, or takes no answer for 30 s.

    Headers may have 64 KiB. What an answer says within one turn of the event loop goes out in one piece.
    """

    _deadline: Any = None  # while headers are awaited
    _taken_by: Any = None
    _header_bytes = 0

    def connection_made(self, transport: Any) -> None:
        gathering: Any = Gathering(transport, self)
        super().connection_made(gathering)
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        if self._deadline is not None:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._deadline is not None and self._header_bytes > HEADER_BYTES:
            self._deadline.cancel()
            self.send_400_response(f"The headers may have {HEADER_BYTES} bytes.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._deadline is None:
            self._await_headers()

    def on_headers_complete(self) -> None:
        self._headers_are_there()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_are_there()
        if self._taken_by is not None:
            self._taken_by.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._taken_by = self.loop.call_later(TAKE_S, self.transport.abort)

    def resume_writing(self) -> None:
        self._taken_by.cancel()
        super().resume_writing()

    def _await_headers(self) -> None:
        self._header_bytes = 0
        self._deadline = self.loop.call_later(HEADER_S, self.transport.close)

    def _headers_are_there(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Gathering:
    """A transport that sends what it was given within one turn of the loop at once.

    The head of an answer, its first event and its first piece are three writes. Each is a call of the kernel that wakes
    the reader, which on two cores that a model fills takes longer than everything else that a piece needs.
    """

    def __init__(self, transport: Any, protocol: HastyProtocol) -> None:
        self._transport = transport
        self._loop = protocol.loop
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts:
            self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))

    def close(self) -> None:
        self._flush()
        self._transport.close()
