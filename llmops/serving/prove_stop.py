"""Proofs about endings: SIGTERM under load, and one version that takes over from another."""

from __future__ import annotations

import asyncio
import itertools
import signal
import string
import subprocess
import sys
import time
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from llmops.core.context import Surroundings
from llmops.core.proof import CheckResult, Size, caught
from llmops.serving.engine import ScriptedEngine
from llmops.serving.prove_site import TOKEN, Closable, Letters, Line, ask, chat_body, endpoint, streamed_text
from llmops.serving.serve import Served, ServeSettings, serve
from llmops.serving.watch import Handover
from llmops.store.ledger import Ledger

STREAMS = 64
# How long a body may take, and a process to end: half a minute where there is time to wait for it.
BODY_S = {"ci": 2.0, "soak": 30.0}
END_S = {"ci": 7.0, "soak": 35.0}
WORDS = ["word "] * 30
HANDOVERS = {"ci": 2, "soak": 30}
PLANTED = 3
NAMES = string.ascii_letters


def sigterm(size: Size, folder: Path) -> CheckResult:
    """SIGTERM with 64 streams and a stuck POST: every stream comes to its end, and the process ends in time."""
    whole, took_s = asyncio.run(_stopped(folder, size, signal.SIGTERM))
    cut, _ = asyncio.run(_stopped(folder, size, signal.SIGKILL))  # the planted fault: no time to finish anything
    alarms = STREAMS - whole + (took_s > END_S[size])
    note = f"{whole}/{STREAMS} complete, ended after {took_s:.1f} s"
    return caught("SIGTERM under load", int(cut < STREAMS), 1, alarms, STREAMS, note)


async def _stopped(folder: Path, size: Size, how: signal.Signals) -> tuple[int, float]:
    """(streams that came to their end, seconds until the process did)."""
    process = subprocess.Popen(
        [sys.executable, "-m", "llmops.serving.prove_stop", str(folder), str(BODY_S[size])],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[2].removesuffix("/v1")
        stuck = await Line.open(url)
        stuck.writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n")
        stuck.writer.write(f"Content-Type: application/json\r\nAuthorization: Bearer {TOKEN}\r\n\r\n{{".encode())
        streams = [asyncio.create_task(_whole(url)) for _ in range(STREAMS)]
        await asyncio.sleep(0.6)
        process.send_signal(how)
        began = time.monotonic()
        whole = sum(await asyncio.gather(*streams))
        await asyncio.to_thread(process.wait, 60)
        return whole, time.monotonic() - began
    finally:
        process.kill()
        process.wait()


async def _whole(url: str) -> bool:
    try:
        status, body = await ask(url, chat_body("go"))
    except (OSError, EOFError, ValueError):  # broken off: ValueError in the middle of a chunk's size
        return False
    return status == 200 and streamed_text(body) == "".join(WORDS)


def main(folder: Path, body_s: float) -> None:
    """The process that is stopped: 64 slots, each answer takes a second and a half."""
    engine = ScriptedEngine(lambda prompt: WORDS, pause_s=0.05, slots=STREAMS)
    served = [Served("tone:2", ("tone",), engine, Letters())]
    ledger = Ledger(f"sqlite:///{folder / 'stopped.db'}")
    world = Surroundings(say=lambda line: print(line, flush=True))
    serve(served, ledger, ServeSettings(token=TOKEN, body_s=body_s), world)


def handovers(size: Size, folder: Path) -> CheckResult:
    """A version takes over while 16 readers ask without a pause: no request is lost, and the old engine is closed."""
    lost, answers, left_open = asyncio.run(_handed_over(folder, HANDOVERS[size], hasty=False))
    # The planted fault: closed before it was drained. Once is too few: all readers may be between two answers.
    dropped, _, _ = asyncio.run(_handed_over(folder, PLANTED, hasty=True))
    note = f"{lost} of {answers} answers lost over {HANDOVERS[size]} handovers, {left_open} engines left open"
    return caught("a promotion under load", int(dropped > 0), 1, lost + left_open, answers, note)


async def _handed_over(folder: Path, times: int, hasty: bool) -> tuple[int, int, int]:
    """(answers lost, answers, engines of retired versions that are still open)."""
    engines = [Closable(NAMES[0])]  # each says its one letter again and again
    done = 0

    def successor(now: Sequence[Served], judged: AbstractSet[str]) -> Handover | None:
        nonlocal done
        if done == times:
            return None
        done += 1
        engines.append(Closable(NAMES[done]))
        fresh = Served(f"tone:{done + 1}", ("tone",), engines[-1], Letters())
        if hasty:
            engines[-2].close()
        return Handover((fresh,), tuple(now), "")

    first = [Served("tone:1", ("tone",), engines[0], Letters())]
    with endpoint(first, folder, ServeSettings(token=TOKEN), successor) as (url, _):
        end = time.monotonic() + times + 0.6
        seen: set[str] = set()

        async def reader() -> list[bool]:
            results = []
            while time.monotonic() < end:
                status, body = await ask(url, chat_body("go"))
                text = streamed_text(body) if status == 200 else None
                seen.add((text or "")[:1])
                results.append(text is not None and len(set(text)) == 1 and len(text) == 20)
            return results

        found = list(itertools.chain(*await asyncio.gather(*(reader() for _ in range(16)))))
        missing = len(set(NAMES[: times + 1]) - seen)
        await asyncio.sleep(0.2)
        return found.count(False) + missing, len(found), sum(not engine.closed for engine in engines[:-1])


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
