"""Proofs that a run survives: killed at any moment, its checkpoint damaged in any way, its disk full or broken."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from llmops.core.errors import LlmopsError
from llmops.core.proof import CheckResult, Size, caught
from llmops.core.run import Run, RunEvent
from llmops.store.disk import FaultyDisk
from llmops.training.checkpoint import PARTS, found
from llmops.training.prove_sample import RUN, Sample, plan_in, sample

KILLS_A_CAMPAIGN = 5
CAMPAIGNS = {"ci": 5, "soak": 40}
SAVED = (*(f"{part}.safetensors" for part in PARTS), "manifest.json")  # in the order in which they are written
# Imported once, in a server from which every process that is killed is forked: a kill costs half a second, not five.
PRELOADED = [__name__, "transformers.models.llama.modeling_llama", "peft", "accelerate", "torch._dynamo"]


def start(folder: Path) -> multiprocessing.process.BaseProcess:
    """Train the sample in `folder` in a process of its own."""
    return forked(train_there, str(folder))


def forked(act: Callable[..., None], *given: object) -> multiprocessing.process.BaseProcess:
    """A started process that does `act(*given)`, forked after everything was imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=act, args=given)
    process.start()
    return process


def train_there(folder: str) -> None:
    """What a forked process does."""
    silence()
    plan_in(Path(folder)).train()


def silence() -> None:
    """Drop what this process says: its words are of no use to anybody."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def kills(size: Size, folder: Path) -> CheckResult:
    """kill -9 at random moments, again and again: every run ends with the hash of the uninterrupted one."""
    made, whole = reference(folder / "kills")
    lasts_s = 0.0
    for _ in range(2):  # the first has to wait for the server's imports
        began = time.monotonic()
        start(made.copy(folder / "timed").folder).join()
        lasts_s = time.monotonic() - began
    draw = random.Random(20261126)
    right = killed = campaigns = 0
    while campaigns < CAMPAIGNS[size] or killed < CAMPAIGNS[size] * KILLS_A_CAMPAIGN:
        campaigns += 1
        done, times = campaign(made.copy(folder / "killed"), draw, lasts_s)
        killed += times
        right += done.status == "finished" and done.adapter_sha256 == whole
    note = f"{killed} kills in {campaigns} campaigns, each run lasts {lasts_s:.1f} s"
    return caught("kill -9 at random moments", right, campaigns, note=note)


def campaign(made: Sample, draw: random.Random, lasts_s: float) -> tuple[Run, int]:
    """Start a run, kill it, go on with it, kill it again...; the run at last, and how often it was killed."""
    killed = 0
    while killed < KILLS_A_CAMPAIGN:
        process = start(made.folder)
        process.join(draw.uniform(0.0, 0.6 * lasts_s))
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        killed += 1
    last = start(made.folder)
    last.join()
    return made.at.run(RUN), killed


def terminated(size: Size, folder: Path) -> CheckResult:
    """SIGTERM: the run saves itself, says that it was interrupted, and goes on to the right hash."""
    made, whole = reference(folder / "sigterm", steps=120)
    draw, right = random.Random(1), 0
    cases = {"ci": 2, "soak": 20}[size]
    for _ in range(cases):
        one = made.copy(folder / "terminated")
        process = start(one.folder)
        while not (one.run_folder / "metrics.jsonl").exists() and process.is_alive():
            time.sleep(0.01)
        time.sleep(draw.uniform(0.0, 0.3))
        os.kill(process.pid or 0, signal.SIGTERM)
        process.join()
        run = one.at.run(RUN)
        saved = [path.name for path in found(one.run_folder / "state")]
        stopped = run.status == "interrupted" and run.note == "terminated" and f"step-{run.step:08d}" in saved
        right += stopped and one.train().adapter_sha256 == whole
    return caught("SIGTERM leaves a valid interrupted run", right, cases)


def crash_states(size: Size, folder: Path) -> CheckResult:
    """Every file of the newest checkpoint absent, empty, half and bit-flipped, alone and with all later ones gone."""
    made, whole = reference(folder / "states")
    made.begin()
    made.train(made.stopped_at(15))
    faults = list(damages(size, random.Random(2)))
    wrong = [what for what, damage in faults if not recovers(made, damage, whole, folder / "damaged")]
    clean = made.copy(folder / "damaged")
    alarms = int(bool(last_start(clean, clean.train()).note))
    return caught("crash states of a save", len(faults) - len(wrong), len(faults), alarms, 1, "; ".join(wrong[:3]))


def recovers(made: Sample, damage: Callable[[Path], None], whole: str, folder: Path) -> bool:
    """Whether a run with a damaged newest checkpoint goes on from the one before it, and says so, to the right hash."""
    one = made.copy(folder)
    before, newest = found(one.run_folder / "state")
    damage(newest)
    run = one.train()
    started = last_start(one, run)
    went_back = before.name == f"step-{started.step:08d}" and newest.name in started.note
    return went_back and run.adapter_sha256 == whole


def last_start(made: Sample, run: Run) -> RunEvent:
    """The event of a run's last start."""
    return [event for event in made.at.events(run.id) if event.kind == "started"][-1]


def damages(size: Size, draw: random.Random) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """(what it is, the function that does it to a checkpoint's folder)."""

    def absent(path: Path) -> None:
        path.unlink()

    def empty(path: Path) -> None:
        os.truncate(path, 0)

    def half(path: Path) -> None:
        os.truncate(path, path.stat().st_size // 2)

    def flipped(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(data))

    def alone(harm: Callable[[Path], None], name: str) -> Callable[[Path], None]:
        return lambda checkpoint: harm(checkpoint / name)

    def and_later(harm: Callable[[Path], None], place: int) -> Callable[[Path], None]:
        def do(checkpoint: Path) -> None:
            harm(checkpoint / SAVED[place])
            for name in SAVED[place + 1 :]:
                (checkpoint / name).unlink()

        return do

    for place, name in enumerate(SAVED):
        for harm in (absent, empty, half, flipped):
            yield f"{name} {harm.__name__}", alone(harm, name)
            if place < len(SAVED) - 1 and (size == "soak" or harm is half):
                yield f"{name} {harm.__name__}, later ones absent", and_later(harm, place)
        for _ in range({"ci": 0, "soak": 40}[size]):
            yield f"{name} flipped", alone(flipped, name)


def disk_faults(size: Size, folder: Path) -> CheckResult:
    """Disk full and EIO at each operation: told in two lines, nothing lost, and the run goes on to the right hash."""
    made, whole = reference(folder / "disk", steps=6, checkpoint_every=2)
    counting = FaultyDisk(-1, 0)
    made.begin()
    made.train(replace(made.at, disk=counting))
    numbers = range(len(counting.done))
    errors = (errno.ENOSPC, errno.EIO)
    cases = [(number, errors[number % 2]) for number in numbers[::3]]
    if size == "soak":
        cases = [(number, error) for number in numbers for error in errors]
    right, wrong = 0, []
    for number, error in cases:
        if survives(made, FaultyDisk(number, error, lasting=number % 3 == 0), whole):
            right += 1
        else:
            wrong.append(f"{os.strerror(error)} at {counting.done[number]}")
    note = "; ".join([f"{len(counting.done)} writes, syncs, renames and appends in a run", *wrong[:3]])
    return caught("disk full and EIO", right, len(cases), note=note)


def survives(made: Sample, disk: FaultyDisk, whole: str) -> bool:
    """Whether a run on a failing disk ends in an error with a way out, and then goes on as if nothing had been."""
    made.begin()
    try:
        made.train(replace(made.at, disk=disk))
    except LlmopsError as error:
        told = "--resume" in error.fix
    else:
        return False
    newest = found(made.run_folder / "state")
    run = made.train()
    usable = last_start(made, run).step == (int(newest[-1].name.removeprefix("step-")) if newest else 0)
    return told and usable and run.adapter_sha256 == whole


def reference(folder: Path, steps: int = 24, checkpoint_every: int = 3) -> tuple[Sample, str]:
    """A sample whose run is created, and the hash of its adapter when nothing goes wrong."""
    made = sample(folder, steps, checkpoint_every)
    whole = made.train().adapter_sha256
    made.begin()
    return made, str(whole)


@contextmanager
def scratch(root: Path) -> Iterator[Path]:
    """A folder that is there for as long as the proofs run."""
    folder = root / f"proof-training-{os.getpid()}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
