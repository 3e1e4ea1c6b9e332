"""The endpoint's HTTP, and the line to the engine behind it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from llmops.serving import protocol
from llmops.serving.protocol import HEADER_BYTES, Gathering, HastyProtocol
from llmops.serving.prove_site import CHAT, TOKEN, site
from llmops.serving.reply import Reply, ask


@pytest.fixture()
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(protocol, "HEADER_S", 0.5)
    with site(tmp_path, lambda prompt: iter(lambda: "x", ""), pause_s=0.01) as one:
        yield one.port


@contextlib.contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as line:
        yield line


def heard(line: socket.socket) -> bytes:
    """Everything until the other side is gone."""
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := line.recv(65536):
            parts.append(part)
    return b"".join(parts)


KNOWN = (f"Authorization: Bearer {TOKEN}",)
HEALTHY = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


def body_of(length: int, stream: bytes = b"true") -> bytes:
    said = b'{"role": "user", "content": "x"}'
    return b'{"model": "tone", "messages": [%b], "max_tokens": %d, "stream": %b}' % (said, length, stream)


def head(*more: str) -> bytes:
    lines = (f"POST {CHAT} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *more, "", "")
    return "\r\n".join(lines).encode()


def chunked(body: bytes, trailer: bytes = b"") -> bytes:
    return b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(body), body, trailer)


def asked(length: int, stream: bytes = b"true", *more: str, padding: int = 0) -> bytes:
    body = body_of(length, stream) + b" " * padding
    return head(*KNOWN, f"Content-Length: {len(body)}", *more) + body


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"\r\n"])
def test_who_sends_no_headers_is_sent_away(port: int, said: bytes) -> None:
    with connected(port) as line:
        line.sendall(said)
        began = time.monotonic()
        assert heard(line) == b""
        assert 0.3 < time.monotonic() - began < 3


def test_an_empty_line_behind_an_answer_does_not_hold_the_connection(port: int) -> None:
    with connected(port) as line:
        line.sendall(asked(1))
        found = b""
        while not found.endswith(b"0\r\n\r\n"):
            found += line.recv(65536)
        line.sendall(b"\r\n")
        began = time.monotonic()
        assert heard(line) == b""
        assert time.monotonic() - began < 3


def test_headers_have_a_bound(port: int) -> None:
    with connected(port) as line, contextlib.suppress(ConnectionError):
        line.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Large: " + b"x" * (HEADER_BYTES + 1))
        assert heard(line).startswith(b"HTTP/1.1 400 ")
    with connected(port) as line:
        line.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Large: " + b"x" * 9000)
        line.sendall(b"\r\n\r\n")
        assert heard(line).startswith(b"HTTP/1.1 200 ")


def test_headers_behind_an_unfinished_answer_have_a_bound_too(port: int) -> None:
    with connected(port) as line:
        line.sendall(asked(4096))
        assert line.recv(65536).startswith(b"HTTP/1.1 200 ")
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            line.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Large: ")
            for _ in range(HEADER_BYTES // 1024 + 8):
                line.sendall(b"x" * 1024)
        assert b"[DONE]" not in heard(line)
        assert time.monotonic() - began < 5


def test_a_large_body_is_not_taken_for_headers_of_the_next_question(port: int) -> None:
    with connected(port) as line:
        line.sendall(asked(1, b"false", padding=2 * HEADER_BYTES) + HEALTHY + b"Connection: close\r\n\r\n")
        assert heard(line).count(b"HTTP/1.1 200 ") == 2


def test_trailers_are_no_headers(port: int) -> None:
    """Else a token, a host or an origin could be said behind everything that a proxy looks at."""
    trailer = f"{KNOWN[0]}\r\n".encode()
    with connected(port) as line:
        line.sendall(head("Transfer-Encoding: chunked") + chunked(body_of(1), trailer))
        assert heard(line).startswith(b"HTTP/1.1 401 ")
    with connected(port) as line:
        line.sendall(head(*KNOWN, "Transfer-Encoding: chunked", "Connection: close") + chunked(body_of(1), b"X: 1\r\n"))
        assert heard(line).startswith(b"HTTP/1.1 200 ")


def test_trailers_have_a_bound(port: int) -> None:
    with connected(port) as line:
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            line.sendall(head(*KNOWN, "Transfer-Encoding: chunked") + chunked(body_of(1), b"X: ")[:-2])
            for _ in range(HEADER_BYTES // 1024 + 8):
                line.sendall(b"x" * 1024)
        assert b"HTTP/1.1 200 " not in heard(line)
        assert time.monotonic() - began < 5


def test_only_so_many_questions_wait_behind_one(port: int) -> None:
    few = protocol.MOST_WAITING
    with connected(port) as line:
        line.sendall((HEALTHY + b"\r\n") * few + HEALTHY + b"Connection: close\r\n\r\n")
        assert heard(line).count(b"HTTP/1.1 200 ") == few + 1
    with connected(port) as line:
        line.sendall(asked(4096) + (HEALTHY + b"\r\n") * (few + 1))
        assert b"[DONE]" not in heard(line)


@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize("pause_s", [0.0, 0.05])
def test_a_question_that_wants_another_protocol_keeps_its_body(port: int, framing: str, pause_s: float) -> None:
    """Java's client asks for h2c by itself. llhttp would read the body as the next request."""
    body = HEALTHY + b"\r\n"  # were it read as a request
    wants = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")
    for one, answer in ((body, b"HTTP/1.1 400 "), (body_of(1, b"false"), b"HTTP/1.1 200 ")):
        how = f"Content-Length: {len(one)}" if framing == "length" else "Transfer-Encoding: chunked"
        with connected(port) as line:
            for part in (
                head(*KNOWN, *wants, how),
                one if framing == "length" else chunked(one),
                asked(1, b"false", *wants),
                HEALTHY + b"\r\n".join(want.encode() for want in wants) + b"\r\n\r\n",
                HEALTHY + b"Connection: close\r\n\r\n",
            ):
                line.sendall(part)
                time.sleep(pause_s)
            found = heard(line)
            assert found.startswith(answer)
            assert found.count(b"HTTP/1.1 ") == 4
            assert found.count(b'{"status": "ok"}') == 2


def test_who_says_that_nothing_more_is_asked_still_hears_the_answer(port: int) -> None:
    with connected(port) as line:
        line.sendall(HEALTHY + b"\r\n")
        line.shutdown(socket.SHUT_WR)
        assert heard(line).startswith(b"HTTP/1.1 200 ")


def test_what_cannot_be_read_is_not_answered_in_the_middle_of_an_answer(port: int) -> None:
    with connected(port) as line:
        line.sendall(asked(4096))
        found = line.recv(65536)
        line.sendall(b"\x00no HTTP\r\n\r\n")
        found += heard(line)
        assert found.startswith(b"HTTP/1.1 200 ")
        assert b"HTTP/1.1 400" not in found
    with connected(port) as line:
        line.sendall(head(*KNOWN, "Transfer-Encoding: chunked") + b"no length\r\n")
        assert heard(line).startswith(b"HTTP/1.1 400 ")


def test_an_end_that_nobody_takes_does_not_hold_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "TAKE_S", 0.2)

    async def work() -> None:
        config = uvicorn.Config(lambda *_: None, lifespan="off")
        made = HastyProtocol(config, ServerState(), {})
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            await asyncio.get_running_loop().create_connection(lambda: made, sock=ours)
            made.transport.write(b"x" * 50_000)
            made.transport.close()
            async with asyncio.timeout(3):
                while made.parser is not None:  # until the connection is lost
                    await asyncio.sleep(0.02)

    asyncio.run(work())


def test_what_is_written_in_one_turn_goes_out_at_once_and_before_the_end() -> None:
    sent: list[bytes] = []
    transport = SimpleNamespace(
        write=sent.append,
        is_closing=lambda: bool(sent[-1:] == [b"closed"]),
        close=lambda: sent.append(b"closed"),
        get_write_buffer_size=lambda: 0,
    )

    async def turn() -> None:
        gathering = Gathering(transport, SimpleNamespace(loop=asyncio.get_running_loop()))  # type: ignore[arg-type]
        gathering.write(b"head ")
        gathering.write(b"piece")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gathering.write(b"end")
        gathering.close()
        gathering.write(b"too late")
        await asyncio.sleep(0.01)

    asyncio.run(turn())
    assert sent == [b"head piece", b"end", b"closed"]


@contextlib.asynccontextmanager
async def answering(path: Path, said: list[bytes]) -> AsyncIterator[str]:
    """A server that says these parts to whatever it is asked, then hangs up."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in said:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.close()

    server = await asyncio.start_unix_server(answer, str(path))
    async with server:
        yield str(path)


def told(path: Path, said: list[bytes]) -> tuple[int, bytes]:
    async def work() -> tuple[int, bytes]:
        async with answering(path, said) as door, ask(door, "/completion", {"X": "1"}, b"{}") as reply:
            return await reply.status(), await reply.body()

    return asyncio.run(work())


def test_an_answer_is_put_together_from_whatever_parts_it_comes_in(tmp_path: Path) -> None:
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n"
    for size in (1, 7, len(whole)):
        parts = [whole[at : at + size] for at in range(0, len(whole), size)]
        assert told(tmp_path / f"{size}.sock", parts) == (200, b"hello, world")
    refused = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"
    assert told(tmp_path / "busy.sock", [refused]) == (503, b"busy")


@pytest.mark.parametrize(
    "said",
    [
        [],
        [b"no HTTP at all\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"],
    ],
)
def test_an_engine_that_breaks_off_is_noticed(tmp_path: Path, said: list[bytes]) -> None:
    with pytest.raises(ConnectionError):
        told(tmp_path / "s.sock", said)


def test_where_nobody_listens_it_is_an_error_of_the_system(tmp_path: Path) -> None:
    async def work() -> None:
        async with ask(str(tmp_path / "none.sock"), "/", {}, b""):
            pass

    with pytest.raises(OSError):
        asyncio.run(work())


def test_leaving_breaks_the_connection_off(tmp_path: Path) -> None:
    async def work() -> bool:
        gone = asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
            while await reader.read(1024):
                pass
            gone.set()
            writer.close()

        server = await asyncio.start_unix_server(answer, str(tmp_path / "s.sock"))
        async with server:
            async with ask(str(tmp_path / "s.sock"), "/", {}, b"") as reply:
                assert await anext(aiter(reply.parts())) == b"x"
            async with asyncio.timeout(2):
                return await gone.wait()

    assert asyncio.run(work())


def test_a_reply_that_nobody_reads_is_taken_all_the_same() -> None:
    async def work() -> tuple[int, Any]:
        reply = Reply()
        for _ in range(100):
            reply.data_received(
                b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" if not reply._status else b"x" * 1000
            )
        reply.data_received(b"x" * 1000)
        return await reply.status(), await reply.body()

    assert asyncio.run(work()) == (200, b"x" * 100_000)
