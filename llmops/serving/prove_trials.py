"""Proofs about canaries at the endpoint: who is drawn for stays so, and nobody hears what is said in the shadow."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import NamedTuple

from llmops.core.canary import Canary
from llmops.core.proof import CheckResult, Size, caught
from llmops.core.serving import Exchange, Sampling
from llmops.serving.engine import Engine, Piece, Prompt, ScriptedEngine
from llmops.serving.prove_site import TOKEN, Json, Letters, ask, chat_body, endpoint
from llmops.serving.serve import Served, ServeSettings
from llmops.serving.shadow import QUIET_S
from llmops.store.ledger import Ledger

CONVERSATIONS = {"ci": 144, "soak": 10_000}
TURNS = 2
SHARE = 0.2
AT_ONCE = 16
FARTHEST = 3.9  # standard errors: of 10,000 right splits one lies farther from its share
QUESTIONS = {"ci": 40, "soak": 2000}
TOGETHER = 20  # questions before the shadow is waited for: more would be dropped
SECRET = "secret"
# What the request of a conversation's n-th turn says besides its messages.
Turn = Callable[[int, int], Json]


def on_trial(trial: Canary, usual: Engine, tried: Engine) -> list[Served]:
    """`tone:1` in production, and `tone:2` beside it."""
    return [Served("tone:1", ("tone",), usual, Letters(), trial=trial), Served("tone:2", (), tried, Letters())]


def drawn(size: Size, folder: Path) -> CheckResult:
    """Conversations of two turns, half of them of a named user: each stays with one version, the share is kept."""
    torn, off, share = asyncio.run(_faults(folder, CONVERSATIONS[size], SHARE, _named))
    # The planted faults: a client that gives each turn another user, and a split by another share.
    all_torn, _, _ = asyncio.run(_faults(folder, 16, SHARE, lambda number, turn: {"user": f"{number} {turn}"}))
    _, found_off, _ = asyncio.run(_faults(folder, 144, 2 * SHARE, _named))
    note = f"{torn} of {CONVERSATIONS[size]} conversations changed hands, {share:.1%} drawn of {SHARE:.0%} wanted"
    return caught("conversations of a canary", int(all_torn > 0) + found_off, 2, torn + off, CONVERSATIONS[size], note)


def _named(number: int, turn: int) -> Json:
    return {"user": f"person {number}"} if number % 2 else {}


async def _faults(folder: Path, conversations: int, share: float, more: Turn) -> tuple[int, int, float]:
    """(conversations that changed hands, 1 where the share of the challenger is not `SHARE`, that share)."""
    trial = Canary(name="tone", control=1, challenger=2, share=share)
    served = on_trial(trial, ScriptedEngine(lambda _: ["1"]), ScriptedEngine(lambda _: ["2"]))
    heard: list[set[str]] = []
    with endpoint(served, folder, ServeSettings(token=TOKEN)) as (url, _):
        for first in range(0, conversations, AT_ONCE):
            heard += await asyncio.gather(*(_talk(url, first + place, more) for place in range(AT_ONCE)))
    tried = heard.count({"2"}) / len(heard)
    error = (SHARE * (1 - SHARE) / len(heard)) ** 0.5
    return sum(len(one) > 1 for one in heard), int(abs(tried - SHARE) > FARTHEST * error), tried


async def _talk(url: str, number: int, more: Turn) -> set[str]:
    """Who answered a conversation: `1`, `2` or both."""
    said, heard = [{"role": "user", "content": f"conversation {number}"}], set()
    for turn in range(TURNS):
        _, body = await ask(url, {"model": "tone", "messages": said, **more(number, turn)})
        answer = json.loads(body)
        text = answer["choices"][0]["message"]["content"]
        heard |= {text, answer["system_fingerprint"].removeprefix("tone:")}
        said += [{"role": "assistant", "content": text}, {"role": "user", "content": f"turn {turn}"}]
    return heard


class _Usual(ScriptedEngine):
    """Production. Counts its answers beside which the one that is tried went on working."""

    def __init__(self, tried: ScriptedEngine) -> None:
        super().__init__(lambda _: ["same"] + [""] * 4, pause_s=0.004)
        self.beside = 0
        self._tried = tried

    async def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Piece]:
        async for piece in super().stream(prompt, sampling):
            self.beside += piece.finish is not None and self._tried.running > 0
            yield piece


class _Stubborn(ScriptedEngine):
    """Works on for a while when its reader has left: a planted fault."""

    async def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Piece]:
        self.running += 1
        asyncio.get_running_loop().call_later(0.3, self._ended)
        async for piece in super().stream(prompt, sampling):
            yield piece

    def _ended(self) -> None:
        self.running -= 1


def shadows(size: Size, folder: Path) -> CheckResult:
    """What is said in the shadow is heard by nobody, put on record as what it is, and never said beside an answer."""
    shadow = Canary(name="tone", control=1, challenger=2, share=1.0, how="shadow")
    seen = asyncio.run(_asked_again(folder, QUESTIONS[size], shadow, ScriptedEngine(_says, 0.005)))
    # The planted faults: a split where a shadow was meant, and an engine that cannot be broken off.
    split = asyncio.run(_asked_again(folder, 20, shadow.replace(how="split", share=0.5), ScriptedEngine(_says)))
    stubborn = asyncio.run(_asked_again(folder, 20, shadow, _Stubborn(_says, 0.005)))
    found = int(split.overheard > 0) + int(stubborn.beside > 0)
    note = f"{QUESTIONS[size] - seen.missing} of {QUESTIONS[size]} on record, {seen.overheard} overheard"
    return caught("answers in the shadow", found, 2, sum(seen), QUESTIONS[size], note)


class _Seen(NamedTuple):
    """Faults of answers in the shadow: heard by a reader, said beside an answer, open to thumbs, or ill recorded."""

    overheard: int
    beside: int
    judged: int
    wrong: int
    missing: int


def _says(prompt: Prompt) -> list[str]:
    """The same as production to every other question."""
    return ["same", *[""] * 4] if int(prompt.text.split()[-1]) % 2 else [SECRET]


async def _asked_again(folder: Path, questions: int, trial: Canary, tried: ScriptedEngine) -> _Seen:
    usual = _Usual(tried)
    with endpoint(on_trial(trial, usual, tried), folder, ServeSettings(token=TOKEN, keep_text=True)) as (url, ledger):
        heard: list[tuple[int, bytes]] = []
        found: list[Exchange] = []
        for number in range(0, questions, 2):
            pair = (chat_body(f"question {number + place}", stream=bool(place)) for place in range(2))
            heard += await asyncio.gather(*(ask(url, body) for body in pair))
            if number % 4 == 0:  # long enough that one in the shadow is begun, and short enough that it is not over
                await asyncio.sleep(QUIET_S + 0.05)
            if len(heard) % TOGETHER == 0:
                found = await asyncio.to_thread(_recorded, ledger, len(heard))
        overheard = sum(status != 200 or SECRET.encode() in body for status, body in heard)
        said = [await ask(url, {"exchange": one.id, "thumb": "up"}, "/v1/feedback") for one in found[:3]]
    judged = sum(status != 404 for status, _ in said)
    wrong = sum(one.version != "tone:2" or one.shadow.same != (one.answer == "same") for one in found if one.shadow)
    return _Seen(overheard, usual.beside, judged, wrong, questions - len(found))


def _recorded(ledger: Ledger, wanted: int) -> list[Exchange]:
    """The answers in the shadow, once there are so many, or when no more came for a while."""
    found: list[Exchange] = []
    newest = time.monotonic()
    while len(found) < wanted and time.monotonic() < newest + 1.5:
        time.sleep(0.05)
        now = [one for one in ledger.read(Exchange) if one.shadow is not None]
        found, newest = now, time.monotonic() if len(now) > len(found) else newest
    return found
