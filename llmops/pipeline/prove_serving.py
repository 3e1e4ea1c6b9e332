"""Proof of the registry and the endpoint together: a bad version on trial goes by itself, a good one stays."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from llmops.core.canary import CanaryEnded
from llmops.core.proof import CheckResult, Size, caught
from llmops.core.version import Promotion
from llmops.pipeline.follow import Successor
from llmops.store.workspace import Workspace

if TYPE_CHECKING:
    from llmops.serving.prove_site import Closable
    from llmops.serving.serve import Served
    from llmops.serving.watch import Handover

READERS = 6
THUMBS = {"ci": 60, "soak": 1000}  # the most that a trial is given
GOOD, POOR = 0.95, 0.3  # shares of answers that people like
LONGEST_S = {"ci": 15.0, "soak": 120.0}
ANSWERED = 20  # the engine says its version's number so often
Look = Callable[[Sequence["Served"], AbstractSet[str]], "Handover | None"]


class Tried(NamedTuple):
    """What became of a trial."""

    answers: int
    lost: int
    strays: int  # answers of the challenger to what was asked after it was taken back
    ended: tuple[CanaryEnded, ...]


def checks(size: Size, at: Workspace) -> Iterator[CheckResult]:
    """The one check, in a scratch folder of the workspace."""
    with TemporaryDirectory(prefix="proof-serving-", dir=at.root) as folder:
        yield taken_back(size, Path(folder))


def taken_back(size: Size, folder: Path) -> CheckResult:
    """A challenger that people like less goes by itself and no answer is lost over it; one they like as much stays."""
    trials = (POOR, _as_it_is), (GOOD, _as_it_is), (POOR, _deaf), (POOR, _hasty)
    bad, equal, deaf, hasty = asyncio.run(_at_once(folder, size, trials))
    found = int(not deaf.ended) + int(hasty.lost > 0)
    rolled_back = [one.outcome for one in bad.ended] == ["rolled back"]
    alarms = bad.lost + bad.strays + (not rolled_back) + equal.lost + len(equal.ended)
    why = bad.ended[0].because if bad.ended else "it stayed"
    note = f"{bad.lost + equal.lost} of {bad.answers + equal.answers} answers lost; {why}"
    return caught("a bad version on trial", found, 2, alarms, 2, note)


def _as_it_is(follow: Look) -> Look:
    return follow


def _deaf(follow: Look) -> Look:
    """The planted fault: nobody reads the thumbs."""
    return lambda now, judged: follow(now, frozenset())


def _hasty(follow: Look) -> Look:
    """The planted fault: an engine that is closed while it still answers."""
    from llmops.serving.engine import ScriptedEngine

    def look(now: Sequence[Served], judged: AbstractSet[str]) -> Handover | None:
        handover = follow(now, judged)
        for one in handover.gone if handover else ():
            if isinstance(one.engine, ScriptedEngine) and one.version == "proof:2":
                end = time.monotonic() + 5
                while not one.engine.running and time.monotonic() < end:
                    time.sleep(0.001)
                one.engine.close()
        return handover

    return look


async def _at_once(folder: Path, size: Size, trials: Sequence[tuple[float, Callable[[Look], Look]]]) -> list[Tried]:
    """What becomes of several trials: (the share of answers that people like, what is wrong)."""
    with TemporaryDirectory(dir=folder) as scratch:
        homes = [Path(scratch) / str(number) for number in range(len(trials))]
        works = (_tried(home, size, *trial) for home, trial in zip(homes, trials, strict=True))
        return await asyncio.gather(*works)


async def _tried(folder: Path, size: Size, liked: float, faulty: Callable[[Look], Look]) -> Tried:
    """Put a version on trial at a running endpoint; readers give a thumb to each answer until it is taken back."""
    from llmops.registry.canary import start
    from llmops.serving.prove_site import TOKEN, Closable
    from llmops.serving.serve import ServeSettings, running

    at, engines = _workspace(folder), {f"proof:{number}": Closable(str(number)) for number in (1, 2)}
    people = _People(engines["proof:2"], THUMBS[size], LONGEST_S[size], liked)

    def load(ref: str) -> Served:
        people.may_judge = ref == "proof:2"
        return _behind(ref, engines[ref])

    start(at, at.versions("proof")[1], 0.5, 0.05, "a proof")
    first, follow = _behind("proof:1", engines["proof:1"]), faulty(Successor(["proof"], at, load))
    with running([first], at.ledger, ServeSettings(token=TOKEN), at.world, follow) as url:
        await asyncio.gather(*(people.read(url) for _ in range(READERS)))
    ended = tuple(at.ledger.read(CanaryEnded, "proof"))
    return Tried(people.answers, people.lost, people.strays, ended)


class _People:
    """Readers who ask and give so many thumbs, and go on asking until the version on trial is closed, or was read."""

    def __init__(self, tried: Closable, thumbs: int, longest_s: float, liked: float) -> None:
        self.answers = self.lost = self.strays = 0
        self.may_judge = False
        self._tried = tried
        self._thumbs = thumbs
        self._end = time.monotonic() + longest_s
        self._liked = {"proof:1": GOOD, "proof:2": liked}
        self._chance = random.Random(0)

    async def read(self, url: str) -> None:
        """One reader: every question begins a conversation."""
        more = 3
        while time.monotonic() < self._end and more > 0:
            over = self._tried.closed
            more -= over
            await self._ask(url, over)

    async def _ask(self, url: str, over: bool) -> None:
        from llmops.serving.prove_site import ask, chat_body
        from llmops.serving.watch import LOOK_EVERY_S

        self.answers += 1
        status, body = await ask(url, chat_body(f"question {self.answers}", stream=False, model="proof"))
        said = json.loads(body)
        who = said.get("system_fingerprint", "")
        if status != 200 or said["choices"][0]["message"]["content"] != who[-1] * ANSWERED:
            self.lost += 1
            return
        self.strays += over and who == "proof:2"
        if self.may_judge and self._thumbs > 0:
            self._thumbs -= 1
            if self._thumbs == 0:
                self._end = min(self._end, time.monotonic() + 2 * LOOK_EVERY_S)
            thumb = "up" if self._chance.random() < self._liked[who] else "down"
            await ask(url, {"exchange": said["id"], "thumb": thumb}, "/v1/feedback")


def _behind(ref: str, engine: Closable) -> Served:
    from llmops.serving.prove_site import Letters
    from llmops.serving.serve import Served

    return Served(ref, ("proof", "proof@production") if ref == "proof:1" else (), engine, Letters())


def _workspace(folder: Path) -> Workspace:
    """Two versions, of which the first answers as production."""
    from llmops.registry.prove_sample import sample_plan, sample_report, sample_workspace, some_files
    from llmops.registry.register import register

    at = sample_workspace(folder)
    for number in (1, 2):
        register(at, sample_plan(), sample_report([True]), some_files(str(number)))
    event = Promotion(name="proof", version=1, because="a proof", author="proof", at=at.world.clock())
    at.ledger.append(event, "proof")
    return at
