"""`HastyProtocol`: uvicorn's HTTP with deadlines, and one write where three are asked for."""

from __future__ import annotations

from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_S = 10.0
TAKE_S = 30.0


class HastyProtocol(H11Protocol):
    """uvicorn waits for ever. This closes a connection that sends no headers for 10 s, or takes no answer for 30 s.

    What an answer says within one turn of the event loop goes out in one piece.
    """

    _deadline: Any = None  # while headers are awaited
    _taken_by: Any = None

    def connection_made(self, transport: Any) -> None:
        gathering: Any = Gathering(transport, self)
        super().connection_made(gathering)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def eof_received(self) -> None:
        self.transport.close()  # behind what is written already: a reader may say that it will ask no more

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
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

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._stop_watching()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_S, self._too_slow)

    def _stop_watching(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self.conn.their_state is h11.IDLE:
            self.transport.close()


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
