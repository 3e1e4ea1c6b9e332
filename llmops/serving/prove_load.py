"""Proofs about load: very long prompts, slow readers, memory."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from pathlib import Path

from llmops.core.proof import CheckResult, Size, caught
from llmops.core.serving import Sampling
from llmops.serving.engine import Piece, Prompt, ScriptedEngine
from llmops.serving.prove_site import CHAT, TOKEN, Letters, Line, ask, chat_body, echo, endpoint, site
from llmops.serving.serve import Served, ServeSettings

LONG = {"ci": 8, "soak": 200}
CONNECTIONS = {"ci": 300, "soak": 1200}
HONEST = {"ci": 200, "soak": 600}  # of 60 the 99th percentile is the slowest
REQUESTS = {"ci": 600, "soak": 10_000}
STALL_S = 0.1
HONEST_S = 0.5
GROWTH_BYTES = 32 * 1024 * 1024
LONGEST = 131_000


class _Beating(ScriptedEngine):
    """An engine that feels the pulse of the endpoint's event loop: the longest work between two beats.

    It is counted in processor time of the loop's thread, so that what else runs on the machine counts for nothing.
    """

    longest_s = 0.0

    async def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Piece]:
        if prompt.text == "feel":
            self.feeling = asyncio.create_task(self._feel())
        async for piece in super().stream(prompt, sampling):
            yield piece

    async def _feel(self) -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            now = time.thread_time()
            self.longest_s, before = max(self.longest_s, now - before), now


def long_prompts(size: Size, folder: Path) -> CheckResult:
    """Prompts of 131,000 characters and bodies of a mebibyte: the event loop goes on beating."""
    worst_s = asyncio.run(_longest_work(folder, LONG[size], lambda prompt: ["ok"]))

    def works(prompt: Prompt) -> Iterable[str]:
        begun = time.thread_time()
        while time.thread_time() - begun < 2 * STALL_S:  # the planted fault: work on the event loop
            pass
        return ["ok"]

    faulty_s = asyncio.run(_longest_work(folder, 1, works))
    note = f"the loop worked for {worst_s * 1000:.0f} ms at most without a pause"
    return caught("very long prompts", int(faulty_s > STALL_S), 1, int(worst_s > STALL_S), 1, note)


async def _longest_work(folder: Path, prompts: int, script: Callable[[Prompt], Iterable[str]]) -> float:
    """The longest that the loop worked without a pause while long prompts were read, in seconds."""
    engine = _Beating(script, context_tokens=200_000)
    served = [Served("tone:2", ("tone",), engine, Letters())]
    with endpoint(served, folder, ServeSettings(token=TOKEN)) as (url, _):
        await ask(url, chat_body("feel"))
        words = itertools.cycle(["word " * (LONGEST // 5), "\u2028é🐈 " * (LONGEST // 5), "[" * LONGEST])
        for text, _ in zip(words, range(prompts), strict=False):
            await ask(url, chat_body(text, stream=False))
            await ask(url, {"model": "tone", "messages": [{"role": "user", "content": "x"}] * 25_000})
    return engine.longest_s


def slow_readers(size: Size, folder: Path) -> CheckResult:
    """Connections that say nothing, half a header or half a body, and readers who never read, beside an honest one."""
    with site(
        folder, lambda prompt: itertools.repeat("word ", 2000) if prompt.text == "long" else ["ok"], slots=64
    ) as one:
        p99_s = asyncio.run(_beside_slow(one.url, CONNECTIONS[size], HONEST[size]))
    with site(folder, lambda prompt: ["ok"], pause_s=HONEST_S + 0.1) as one:  # the planted fault: an answer that waits
        faulty_s = asyncio.run(_beside_slow(one.url, 0, 2))
    note = f"{CONNECTIONS[size]} slow connections, the honest reader's p99 is {p99_s * 1000:.0f} ms"
    return caught("slow readers", int(faulty_s >= HONEST_S), 1, int(p99_s >= HONEST_S), 1, note)


async def _beside_slow(url: str, connections: int, requests: int) -> float:
    """The 99th percentile of an honest reader's whole answer, in seconds."""
    slow = [await Line.open(url) for _ in range(connections)]
    for number, line in enumerate(slow):
        if number % 20 == 0:
            line.writer.transport.pause_reading()  # type: ignore[attr-defined]
            line.send("POST", CHAT, chat_body("long", max_tokens=4096))
        elif number % 3 == 0:
            line.writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.")
        elif number % 3 == 1:
            line.send("POST", CHAT)
            line.writer.write(b"{")
    took = []
    for _ in range(requests):
        began = time.perf_counter()
        status, _ = await asyncio.wait_for(ask(url, chat_body("hi")), 30)
        took.append(time.perf_counter() - began if status == 200 else 30.0)
    for line in slow:
        line.writer.transport.abort()
    return sorted(took)[-1 - len(took) // 100]


def memory(size: Size, folder: Path) -> CheckResult:
    """Requests of every kind, one after the other: what the process holds does not grow with them."""
    with site(folder, echo) as one:
        growth = asyncio.run(_growth(one.url, REQUESTS[size]))
    kept: list[str] = []

    def keeps(prompt: Prompt) -> Iterable[str]:
        kept.append("".join(str(number) for number in range(80_000)))  # the planted fault, 390 kB a request
        return ["ok"]

    with site(folder, keeps) as one:
        faulty = asyncio.run(_growth(one.url, 150))
    note = f"{growth / 2**20:.1f} MiB over {REQUESTS[size]} requests"
    return caught("memory over requests", int(faulty > GROWTH_BYTES), 1, int(growth > GROWTH_BYTES), 1, note)


async def _growth(url: str, requests: int) -> int:
    """Bytes that the process holds more after so many requests than after the first hundred."""
    import psutil

    process = psutil.Process()
    before = 0
    for number in range(100 + requests):
        if number == 100:
            before = process.memory_info().rss
        await ask(url, chat_body(f"hello {number}", stream=number % 2 == 0, user=str(number)))
    return int(process.memory_info().rss - before)
