"""Proof of `register` and `promote`: killed at any moment, nothing is half done, and nothing acknowledged is lost."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from llmops.core.context import say_nothing
from llmops.core.errors import LlmopsError
from llmops.core.proof import CheckResult, Size
from llmops.core.version import ModelVersion, Promotion
from llmops.registry.names import resolve
from llmops.registry.promote import promote, rollback
from llmops.registry.prove_faults import FAULTS
from llmops.registry.prove_sample import NAME, sample_plan, sample_report, sample_workspace, some_files
from llmops.registry.register import register, verify
from llmops.store.workspace import Workspace

KILLS = {"ci": 60, "soak": 1000}
KILLS_A_WORKSPACE = 12
KILLS_A_FAULT = 400  # at most, until it shows
ROUNDS = 3  # a kill falls within so many rounds after the start, a round being timed here first
Say = Callable[[str], None]
Act = Callable[[Workspace, Say], None]


class Acts(NamedTuple):
    """How a version is registered and promoted; each says what it did, once it is done."""

    register: Act
    promote: Act


def registering(at: Workspace, say: Say) -> None:
    """The next version."""
    version = register(at, sample_plan(), sample_report([True]), some_files())
    say(f"version {version.number}")


def promoting(at: Workspace, say: Say) -> None:
    """The newest version to production; every third time back again."""
    version = at.versions(NAME)[-1]
    event = promote(at, version, None, because="a proof")
    say(f"promoted {event.version}")
    if event.before and version.number % 3 == 0:
        say(f"promoted {rollback(at, NAME).version}")


RIGHT = Acts(registering, promoting)


def kills(size: Size, folder: Path) -> CheckResult:
    """Killed at a random moment, over and over, in workspaces that are used on."""
    chance, spread_s = random.Random(0), ROUNDS * round_s(folder / "timed")
    right, wrong, done = 0, [], 0
    for number in range(KILLS[size]):
        root = folder / f"kills-{number // KILLS_A_WORKSPACE}"
        found, said = kill(root, RIGHT, chance.uniform(0.0, spread_s))
        done += said
        if found is None:
            right += 1
        else:
            wrong.append(found)
    return CheckResult(
        name="killed while it registers and promotes",
        found=right,
        of=KILLS[size],
        goal=f"{KILLS[size]}/{KILLS[size]}: nothing half done, nothing lost",
        passed=not wrong,
        note="; ".join([f"{done} registered, promoted or rolled back in between", *wrong[:3]]),
    )


def planted(size: Size, folder: Path) -> CheckResult:
    """Wrong ways to register and promote, each put through the same kills."""
    chance, spread_s = random.Random(1), ROUNDS * round_s(folder / "timed")
    missed, notes = [], []
    for name, (what, act) in FAULTS.items():
        acts = RIGHT._replace(**{what: act})
        for number in range(KILLS_A_FAULT):
            found, _ = kill(folder / f"fault-{what}-{name.split()[-1]}", acts, chance.uniform(0.0, spread_s))
            if found:
                notes.append(f"{name}: after {number + 1} kills, {found}")
                break
        else:
            missed.append(name)
    return CheckResult(
        name="wrong ways to promote are found out",
        found=len(FAULTS) - len(missed),
        of=len(FAULTS),
        goal=f"{len(FAULTS)}/{len(FAULTS)}",
        passed=not missed,
        note="; ".join([*(f"missed: {name}" for name in missed), *notes]),
    )


def round_s(root: Path) -> float:
    """Seconds that registering and promoting one version take here."""
    at = sample_workspace(root)
    registering(at, say_nothing)
    began = time.perf_counter()
    registering(at, say_nothing)
    promoting(at, say_nothing)
    return time.perf_counter() - began


def kill(root: Path, acts: Acts, after_s: float) -> tuple[str | None, int]:
    """(what is wrong with the workspace after one process was killed there, or None; how much it had done)."""
    before = _promotions(root)
    reader, writer = os.pipe()
    process = multiprocessing.get_context("fork").Process(target=_live, args=(root, acts, writer))
    process.start()
    os.close(writer)
    time.sleep(after_s)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    with os.fdopen(reader) as pipe:
        said = [(what, int(number)) for what, number in (line.split() for line in pipe)]
    try:
        return _wrong(sample_workspace(root), before, said), len(said)
    except (LlmopsError, ValidationError, ValueError, OSError) as error:
        return f"unreadable: {str(error).splitlines()[0]}", len(said)


def _promotions(root: Path) -> list[Promotion]:
    return sample_workspace(root).ledger.read(Promotion, NAME)


def _live(root: Path, acts: Acts, writer: int) -> None:
    at = sample_workspace(root)

    def say(line: str) -> None:
        os.write(writer, f"{line}\n".encode())  # as short a line is written whole

    for _ in count():
        acts.register(at, say)
        acts.promote(at, say)


def _wrong(at: Workspace, before: list[Promotion], said: list[tuple[str, int]]) -> str | None:
    """What does not hold: every version is whole, what was said is there, the alias names one of the versions."""
    versions = {version.number: version for version in at.versions(NAME)}
    _verify_newest(at, list(versions.values()))
    lost = [number for what, number in said if what == "version" and number not in versions]
    if lost:
        return f"version {lost[0]} was registered and is lost"
    events = at.ledger.read(Promotion, NAME)
    new, promised = events[len(before) :], [number for what, number in said if what == "promoted"]
    if events[: len(before)] != before:
        return "an earlier promotion changed"
    if [event.version for event in new[: len(promised)]] != promised:
        return f"{promised} were promoted, and {[event.version for event in new]} are on record"
    if len(new) > len(promised) + 1:
        return f"{len(new) - len(promised)} promotions that nobody finished"
    chain = [None, *(event.version for event in events)]
    if [event.before for event in events] != chain[:-1]:
        return "a promotion names another before it than answered"
    return None if not events else _answers(at, events[-1].version, set(versions))


def _verify_newest(at: Workspace, versions: list[ModelVersion]) -> None:
    for version in versions[-3:]:
        verify(at, version)


def _answers(at: Workspace, number: int, known: set[int]) -> str | None:
    if number not in known:
        return f"production names version {number}, which there is not"
    found = resolve(at, f"{NAME}@production").number
    return None if found == number else f"production is {found}, and the last promotion says {number}"
