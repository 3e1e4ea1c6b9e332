"""`serve`: answer over HTTP until told to stop, then finish what is under way."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shlex
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from llmops.core.context import Surroundings
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.serving import Endpoint
from llmops.serving.gateway import Served, ServeSettings, build_app
from llmops.serving.protocol import HastyProtocol
from llmops.serving.security import LOOPBACK
from llmops.serving.watch import Successor
from llmops.store.ledger import Ledger

GRACE_S = 30

__all__ = ["ServeSettings", "Served", "running", "serve", "token_file"]


def serve(
    served: Sequence[Served],
    ledger: Ledger,
    settings: ServeSettings,
    world: Surroundings,
    token_at: Path | None = None,
    successor: Successor | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; then let running answers finish, 30 s at most, and write the ledger.

    Once it answers: an `Endpoint` event, and two lines said: the address, and a curl line that works (`token_at` is the
    file that it reads the token from). `successor` says who takes over while it runs.
    Raises `RequestError` for a host without protection or a port that is taken.
    """
    with _listening(settings) as listener:
        url = _url(settings, listener)

        def announce() -> None:
            _record(served, ledger, world, url)
            kept = "redacted text is kept" if settings.keep_text else "only numbers are kept"
            world.say(f"Answering at {url}/v1 ({kept}). Ctrl-C stops.")
            world.say(_curl(url, served[0], token_at if settings.token else None))

        server = _Server(build_app(served, ledger, settings, world, successor), announce)
        with _quiet_signals():
            server.run(sockets=[listener])


@contextlib.contextmanager
def running(
    served: Sequence[Served],
    ledger: Ledger,
    settings: ServeSettings,
    world: Surroundings,
    successor: Successor | None = None,
) -> Iterator[str]:
    """Serve in a thread of this process while the block runs; yields the address (`http://127.0.0.1:PORT`)."""
    with _listening(settings) as listener:
        up = threading.Event()
        server = _Server(build_app(served, ledger, settings, world, successor), up.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="endpoint", daemon=True)
        thread.start()
        if not up.wait(30):
            raise LlmopsError("The endpoint did not come up within 30 s.", "Look at the messages above.")
        url = _url(settings, listener)
        _record(served, ledger, world, url)
        try:
            yield url
        finally:
            server.should_exit = True
            thread.join(GRACE_S + 5)


def token_file(path: Path) -> str:
    """The token in `path`; a missing file is made with a fresh one (256 bits), readable by its owner only."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        token = path.read_text(encoding="utf-8").strip()
        if len(token) < 16:
            raise RequestError(f"{path} holds no token.", "Delete the file to have a new one made.") from None
        return token
    except OSError as error:
        raise RequestError(f"{path} cannot be written: {error.strerror}.", "Give another --token-file.") from error
    token = secrets.token_urlsafe(32)
    with open(handle, "w", encoding="utf-8") as stream:
        stream.write(f"{token}\n")
    return token


@contextlib.contextmanager
def _listening(settings: ServeSettings) -> Iterator[socket.socket]:
    """A listening socket. Raises `RequestError` where it would be open to the network without protection."""
    if settings.host not in LOOPBACK and not (settings.token and settings.allowed_hosts):
        raise RequestError(
            f"{settings.host} can be reached from other machines.",
            "Give a token and at least one --allowed-host, or stay on 127.0.0.1 and use ssh -L.",
        )
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=1024)
    except OSError as error:
        raise RequestError(
            f"{settings.host}:{settings.port} cannot be opened: {error.strerror}.",
            "Give another --port; 0 is any free one.",
        ) from error
    with listener:
        # Accepted connections inherit it. asyncio sets it only where a socket names its protocol,
        # which this one does not: a whole answer on a kept connection took 48 ms instead of 1.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


def _url(settings: ServeSettings, listener: socket.socket) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{listener.getsockname()[1]}"


def _record(served: Sequence[Served], ledger: Ledger, world: Surroundings, url: str) -> None:
    versions = tuple(one.version for one in served)
    engines = ", ".join(sorted({one.engine.name for one in served}))
    event = Endpoint(url=url, versions=versions, engine=engines, pid=os.getpid(), at=world.clock())
    for name in sorted({version.split(":")[0] for version in versions}):
        ledger.append(event, name)


def _curl(url: str, first: Served, token_at: Path | None) -> str:
    """A line to paste: asks the first model."""
    model = first.aliases[0] if first.aliases else first.version
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
    token = f'-H "Authorization: Bearer $(cat {shlex.quote(str(token_at))})" ' if token_at else ""
    return f"curl {url}/v1/chat/completions {token}-H 'Content-Type: application/json' -d {shlex.quote(body)}"


class _Server(uvicorn.Server):
    """uvicorn with its deadlines set, that says when it answers."""

    def __init__(self, app: ASGIApp, when_up: Callable[[], None]) -> None:
        # A guard's refusal or a reader who left is no news; a traceback is.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        super().__init__(
            uvicorn.Config(
                app,
                http=HastyProtocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._when_up = when_up

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._when_up()


@contextlib.contextmanager
def _quiet_signals() -> Iterator[None]:
    """uvicorn raises the signal that stopped it again when it is done; a drained server ends as a success instead."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
