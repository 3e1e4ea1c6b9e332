"""The endpoint's HTTP at its edges."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import uvicorn
from uvicorn.server import ServerState

from llmops.serving import protocol
from llmops.serving.protocol import Gathering, HastyProtocol
from llmops.serving.prove_site import CHAT, TOKEN, site


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


HEADER_BYTES = 64 * 1024  # uvicorn's bound
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


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n"])
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
        assert heard(line).startswith(b"HTTP/1.1 400 ")
        assert time.monotonic() - began < 3


def test_headers_have_a_bound(port: int) -> None:
    with connected(port) as line, contextlib.suppress(ConnectionError):
        line.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Large: " + b"x" * (HEADER_BYTES + 1))
        assert heard(line).startswith(b"HTTP/1.1 400 ")
    with connected(port) as line:
        line.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Large: " + b"x" * 9000)
        line.sendall(b"\r\n\r\n")
        assert heard(line).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("behind", [b"\x00no HTTP\r\n\r\n", HEALTHY + b"X-Large: " + b"x" * (HEADER_BYTES + 8192)])
def test_what_stands_behind_a_question_waits_for_its_answer(port: int, behind: bytes) -> None:
    with connected(port) as line:
        line.sendall(asked(50))
        found = line.recv(65536)
        line.sendall(behind)
        answer, _, rest = (found + heard(line)).partition(b"[DONE]")
    assert answer.startswith(b"HTTP/1.1 200 ") and b"HTTP/1.1 400" not in answer
    assert rest.count(b"HTTP/1.1 ") == rest.count(b"HTTP/1.1 400 ") == 1


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


def test_questions_that_wait_are_answered_in_turn(port: int) -> None:
    with connected(port) as line:
        line.sendall((HEALTHY + b"\r\n") * 64 + HEALTHY + b"Connection: close\r\n\r\n")
        assert heard(line).count(b"HTTP/1.1 200 ") == 65


@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize("pause_s", [0.0, 0.05])
def test_a_question_that_wants_another_protocol_keeps_its_body(port: int, framing: str, pause_s: float) -> None:
    """Java's client asks for h2c by itself. A parser that believes it reads the body as the next request."""
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


def test_a_body_that_cannot_be_read_is_refused(port: int) -> None:
    with connected(port) as line:
        line.sendall(head(*KNOWN, "Transfer-Encoding: chunked") + b"no length\r\n")
        assert heard(line).startswith(b"HTTP/1.1 400 ")


def test_an_end_that_nobody_takes_does_not_hold_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "TAKE_S", 0.2)

    async def lost_after_s() -> float:
        state = ServerState()
        made = HastyProtocol(uvicorn.Config(lambda *_: None, lifespan="off"), state, {})
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            await asyncio.get_running_loop().create_connection(lambda: made, sock=ours)
            made.transport.write(b"x" * 50_000)
            began = time.monotonic()
            made.transport.close()
            async with asyncio.timeout(3):
                while made in state.connections:
                    await asyncio.sleep(0.02)
            return time.monotonic() - began

    assert 0.15 < asyncio.run(lost_after_s()) < 3


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
