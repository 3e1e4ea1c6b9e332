"""Proofs about readers: many at once, those who leave, and texts of every script."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Iterable
from pathlib import Path

from llmops.core.proof import CheckResult, Size, caught
from llmops.serving.engine import Prompt
from llmops.serving.prove_site import CHAT, Line, Site, ask, chat_body, echo, site, streamed_text, whole_text

READERS = 256
ROUNDS_S = {"ci": 0.0, "soak": 600.0}
LEAVERS = {"ci": 24, "soak": 200}
TEXTS = {"ci": 160, "soak": 5200}
# Letters that come apart: joined emoji, combining marks, line separators, right to left, outside the first plane.
JOINED = ["🐈", "👩\u200d👩\u200d👧", "🏴\u200d☠️", "e\u0301", "न\u093f", "ﷺ", "𝔘", "日本", "ß"]
ODD = [*JOINED, "\u2028", "\u0085", "\u200f", "a", " ", "\n", "\x7f", "\ufffd"]


def streams(size: Size, folder: Path) -> CheckResult:
    """256 streaming readers at once, again and again: none of their answers is lost, mixed or doubled."""
    answers, right = asyncio.run(_streams(folder, READERS, ROUNDS_S[size], echo))
    # The planted fault: an engine that gives every fiftieth reader a letter of somebody else.
    turn = itertools.count(1)

    def mixes(prompt: Prompt) -> Iterable[str]:
        return [*prompt.text, "x" if next(turn) % 50 == 0 else ""]

    faulty, kept = asyncio.run(_streams(folder, 100, 0.0, mixes))
    note = f"{answers - right} of {answers} answers lost, mixed or doubled"
    found = int(faulty - kept == faulty // 50)
    return caught("256 streams at once", found, 1, answers - right, answers, note)


async def _streams(folder: Path, readers: int, for_s: float, script: object) -> tuple[int, int]:
    """(answers asked for, answers as they should be)."""
    with site(folder, script, 0.001, slots=readers, queue=readers) as one:  # type: ignore[arg-type]
        end = time.monotonic() + for_s

        async def reader(number: int) -> list[bool]:
            results = []
            for turn in itertools.count():
                said = f"reader {number} turn {turn} 🐈"
                status, body = await ask(one.url, chat_body(said))
                results.append(status == 200 and streamed_text(body) == said)
                if time.monotonic() >= end:
                    return results
            return results

        found = [result for some in await asyncio.gather(*map(reader, range(readers))) for result in some]
        return len(found), sum(found)


def unicode_texts(size: Size, folder: Path) -> CheckResult:
    """Texts of every script: the streamed answer equals the one that is not, and both equal what was said."""
    draw = random.Random(20261126)
    texts = ["".join(draw.choices(ODD, k=draw.randint(1, 24))) for _ in range(TEXTS[size])]
    wrong = asyncio.run(_differ(folder, texts, echo))

    # The planted fault: pieces that are cut at bytes, as naive decoding token by token does.
    def cut(prompt: Prompt) -> Iterable[str]:
        return [bytes([byte]).decode("utf-8", "replace") for byte in prompt.text.encode()]

    odd = [text for text in texts if not text.isascii()][:40]
    broken = asyncio.run(_differ(folder, odd, cut))
    return caught("streamed equals unstreamed, in every script", broken, len(odd), wrong, len(texts))


async def _differ(folder: Path, texts: list[str], script: object) -> int:
    """How many texts do not come back as they went, both ways."""
    with site(folder, script) as one:  # type: ignore[arg-type]

        async def same(text: str) -> bool:
            (_, stream), (_, whole) = await ask(one.url, chat_body(text)), await ask(one.url, chat_body(text, False))
            return streamed_text(stream) == whole_text(whole) == text

        found: list[bool] = []
        for start in range(0, len(texts), 16):
            found += await asyncio.gather(*map(same, texts[start : start + 16]))
        return found.count(False)


def leavers(size: Size, folder: Path) -> CheckResult:
    """Readers who leave in the queue, before the first token, and in the middle: the slot is free within 1 s."""
    late, worst_s = asyncio.run(_leave(folder, LEAVERS[size], gone=True))
    # The planted fault: readers who stay. Their slot is not free, and the check must say so.
    stayed, _ = asyncio.run(_leave(folder, 3, gone=False))
    note = f"slot free after {worst_s * 1000:.0f} ms at most"
    return caught("readers who leave", stayed, 3, late, LEAVERS[size], note)


async def _leave(folder: Path, count: int, gone: bool) -> tuple[int, float]:
    """(how many left a slot taken for more than a second, the longest time it took)."""
    draw, late, worst_s = random.Random(1), 0, 0.0
    with site(folder, lambda prompt: itertools.repeat("x", 4000), pause_s=0.005, slots=1) as one:
        for number in range(count):
            line = await Line.open(one.url)
            line.send("POST", CHAT, chat_body("hello", stream=number % 2 == 0, max_tokens=4096))
            await asyncio.sleep(draw.choice((0.0, 0.005, 0.05)))
            if gone:
                await line.close()
            took_s = await _free(one, 0.3 if not gone else 1.0)
            late += took_s is None
            worst_s = max(worst_s, took_s or 0.0)
            if not gone:
                await line.close()
                await _free(one, 5.0)
        status, _ = await asyncio.wait_for(ask(one.url, chat_body("next", max_tokens=1)), 5)
        return late + (status != 200), worst_s


async def _free(one: Site, within_s: float) -> float | None:
    """How long until the engine runs nothing, seen five times in a row; None where it is longer."""
    began = time.monotonic()
    quiet = 0
    while time.monotonic() - began < within_s:
        quiet = quiet + 1 if one.engine.running == 0 else 0
        if quiet >= 5:
            return time.monotonic() - began
        await asyncio.sleep(0.002)
    return None
