"""Proofs about who and what comes in: tokens, paths, artefacts, bodies."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from starlette.routing import Route

from llmops.core.context import Surroundings
from llmops.core.proof import CheckResult, Size, caught
from llmops.serving.engine import Prompt, ScriptedEngine
from llmops.serving.gateway import OPEN_PATHS, Served, ServeSettings, build_app
from llmops.serving.prove_site import CHAT, TOKEN, Json, Letters, Line, echo, endpoint, site
from llmops.store.ledger import Ledger

BODIES = {"ci": 600, "soak": 10_000}
CANARY = "the canary sings at dawn"


def authentication(size: Size, folder: Path) -> CheckResult:
    """Every route of the live table but the open ones refuses a request without the token, and one with a wrong one."""
    served = [Served("tone:2", (), ScriptedEngine(echo), Letters())]
    ledger = Ledger(f"sqlite:///{folder / 'routes.db'}")
    app = build_app(served, ledger, ServeSettings(token=TOKEN), Surroundings())
    routes = [(one.path, method) for one in app.routes if isinstance(one, Route) for method in one.methods or ()]
    closed = [route for route in routes if route[0] not in OPEN_PATHS]
    with endpoint(served, folder, ServeSettings(token=TOKEN)) as (url, _):
        alarms = asyncio.run(_open(url, closed))
    with endpoint(served, folder, ServeSettings(token=None)) as (url, _):  # the planted fault: nobody asks for a token
        found = asyncio.run(_open(url, closed))
    tries = 2 * len(closed)
    note = f"{len(routes)} routes, open: {', '.join(sorted(OPEN_PATHS))}"
    return caught("every route asks for the token", found, tries, alarms, tries, note)


async def _open(url: str, routes: list[tuple[str, str]]) -> int:
    """How many of these are answered without the token, or with a wrong one."""
    found = 0
    for (path, method), token in itertools.product(routes, (None, "wrong")):
        line = await Line.open(url)
        line.send(method, path, {} if method == "POST" else None, token)
        found += await line.head() != 401
        await line.close()
    return found


def traversal(size: Size, folder: Path) -> CheckResult:
    """Paths that climb out of where they should stay: not a byte of a canary file comes back."""
    (folder / "canary.txt").write_text(CANARY, encoding="utf-8")
    paths = list(_climbing(folder))
    with site(folder) as one:
        alarms = asyncio.run(_heard(one.url, paths))
    found = asyncio.run(_careless(folder, paths))
    note = f"{len(paths)} paths, as they stand, as a model's name and as a file's"
    return caught(
        "path traversal", int(found > 0), 1, alarms, len(paths), f"{note}; a careless server gave it {found} times"
    )


def _climbing(folder: Path) -> Iterable[str]:
    """At least 500 spellings of the way to the canary, relative and absolute, plain and encoded once and twice."""
    target = folder / "canary.txt"
    plain = ["../", "..\\", "....//", "..;/", ".%00./"]
    encoded = ["..%2f", "%2e%2e/", "%2e%2e%2f", "..%252f", "..%5c", "..%c0%af", "%uff0e%uff0e/"]
    starts = ["/", "//", "/v1/", "/v1/models/", "/static/", "/healthz/", "/file="]
    for start, up, depth in itertools.product(starts, plain + encoded, (0, 1, 2, 3, 5, 8, 12)):
        yield f"{start}{up * depth}{'canary.txt' if depth < 3 else quote(str(target).lstrip('/'))}"
    yield from (f"{start}{target}" for start in starts)


async def _heard(url: str, paths: list[str]) -> int:
    """How often the canary is heard, asked for as a path, and as the name of a model."""
    found = 0
    for path in paths:
        named = {"model": path[:200], "messages": HELLO}
        for asked in (("GET", path, None), ("POST", CHAT, named)):
            line = await Line.open(url)
            line.send(*asked)
            try:
                await line.head()
                found += CANARY.encode() in await line.body()
            except asyncio.IncompleteReadError:  # closed without a word: nothing was heard
                continue
            finally:
                await line.close()
    return found


async def _careless(folder: Path, paths: list[str]) -> int:
    """The planted fault: a server that joins a folder and a path, asked in the same way."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked = folder / "deep" / "er" / unquote(head.split()[1].decode()).lstrip("/")
        body = asked.read_bytes() if "\0" not in str(asked) and asked.is_file() else b""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    (folder / "deep" / "er").mkdir(parents=True)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        return await _heard(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", paths)
    finally:
        server.close()


def hostile_artefacts(size: Size, folder: Path) -> CheckResult:
    """Model files that would run code or open a socket: all refused, in a process whose every step is watched."""
    done = subprocess.run(
        [sys.executable, "-m", "llmops.serving.prove_artefacts", str(folder / "artefacts")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    told: Json = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}
    refused, of, faults = told.get("refused", 0), told.get("of", 60), told.get("executed", 1) + told.get("sockets", 1)
    found = refused if told.get("careless") == 1 else 0  # the planted fault: a loader that runs what it finds
    note = f"{told.get('executed')} executed, {told.get('sockets')} sockets. Let in: {told.get('through') or 'none'}"
    return caught("hostile artefacts", found, of, faults, 1, note if told else done.stderr[-300:])


def malformed(size: Size, folder: Path) -> CheckResult:
    """Bodies damaged in every way: each is answered or refused in OpenAI's shape, and never with 5xx."""
    bodies = list(_damaged(BODIES[size], random.Random(7)))
    with site(folder) as one:
        wrong = asyncio.run(_unfit(one.url, bodies))

    def breaks(prompt: Prompt) -> Iterable[str]:
        raise RuntimeError("the planted fault")

    with site(folder, breaks) as one:
        found = asyncio.run(_unfit(one.url, [(CHAT, json.dumps(VALID[CHAT]).encode())]))
    return caught("malformed bodies", found, 1, wrong, len(bodies), f"{wrong} answers were 5xx or in another shape")


HELLO = [{"role": "user", "content": "hello"}]
VALID: dict[str, Json] = {
    CHAT: {"model": "tone", "messages": HELLO, "max_tokens": 4, "temperature": 0.5, "n": 2, "stop": ["x"], "seed": 1},
    "/v1/completions": {"model": "tone", "prompt": ["hello"], "max_tokens": 4, "logprobs": 2, "user": "u"},
    "/v1/classify": {"model": "tone", "input": ["hello"], "abstain_below": 0.5},
    "/v1/feedback": {"exchange": "chatcmpl-0", "thumb": "up", "edit": "better"},
}
NOTHINGS: list[Any] = [None, "", [], {}, [[]], {"a": 1}, [None] * 300]
ODD: list[Any] = [*NOTHINGS, True, -1, 0, 1e308, 2**63, 10**400, "x" * 300, "\ud800", "\x00", "NaN"]


def _damaged(count: int, draw: random.Random) -> Iterable[tuple[str, bytes]]:
    for _ in range(count):
        path = draw.choice(list(VALID))
        body: Json = json.loads(json.dumps(VALID[path]))
        for _ in range(draw.randint(1, 2)):
            key = draw.choice([*body, "tools", "response_format", "unknown"])
            kind = draw.random()
            if kind < 0.2:
                body.pop(key, None)
            elif kind < 0.4 and isinstance(body.get(key), list) and body[key] and isinstance(body[key][0], dict):
                body[key][0][draw.choice(["role", "content", "odd"])] = draw.choice(ODD)
            else:
                body[key] = draw.choice(ODD)
        raw = json.dumps(body).encode()
        if draw.random() < 0.3:
            place = draw.randrange(len(raw))
            raw = raw[:place] + bytes([draw.randrange(256)]) + raw[place + draw.randint(0, 2) :]
        yield path, raw


async def _unfit(url: str, bodies: list[tuple[str, bytes]]) -> int:
    """How many are answered with 5xx, or refused in another shape than OpenAI's."""
    found = 0
    line = await Line.open(url)
    for path, raw in bodies:
        line.send_raw("POST", path, raw)
        status, body = await line.head(), await line.body()
        refused = status >= 400 and set(json.loads(body)["error"]) != {"message", "type", "param", "code"}
        found += status >= 500 or refused
    await line.close()
    return found
