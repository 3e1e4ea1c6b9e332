"""The door: `train` carries out a `Plan` and leaves a `Run`, whatever happens on the way."""

from __future__ import annotations

import dataclasses
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from llmops.core.context import Track, say_nothing, silent
from llmops.core.dataset import Message, Row
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.plan import Knobs, Plan
from llmops.core.run import Run, RunEvent, StepRecord
from llmops.core.serving import Sampling
from llmops.core.tasks import Continue
from llmops.core.value import digest
from llmops.lm.adapters import adapter_state, save_tuned
from llmops.lm.base import load_tokenizer
from llmops.lm.check import refuse
from llmops.lm.lessons import lessons
from llmops.lm.model import LocalModel
from llmops.lm.render import Renderer
from llmops.store.disk import DISK, REFUSALS, Disk, DiskError
from llmops.store.files import append_line, building, clear_drafts, holding, sha256_file
from llmops.store.workspace import Workspace
from llmops.training import reference
from llmops.training.checkpoint import agree, restore, save
from llmops.training.guard import (
    MemoryGuard,
    MemoryShort,
    NotFinite,
    check_weights,
    give_back_memory,
    room_for,
    shrink,
)
from llmops.training.loop import Loop, build, run_steps
from llmops.training.losses import Batch
from llmops.training.processes import Team, joined, rank_of
from llmops.training.start import START_FOLDER, begin_at
from llmops.training.trackers import Tracking, tracking
from llmops.training.watch import enough, keep_best, watched

T = TypeVar("T")
STOP_FILE = "stop"
REFERENCE = "reference.safetensors"
SAMPLE_TIMES = 3
OPENING_WORDS = 8  # of a text, which the model goes on with
RoomOf = Callable[[Knobs], Callable[[], int]]


@dataclass
class StopSign:
    """Raised by Ctrl-C, SIGTERM or `llmops stop`; training looks at it after every step."""

    file: Path
    asked: str = ""

    def seen(self) -> str:
        """Why to stop now, or nothing."""
        return self.asked or ("stopped by 'llmops stop'" if self.file.exists() else "")


class Stopped(Exception):
    """Somebody asked to stop before the first step."""


@contextmanager
def stop_on_signals(sign: StopSign) -> Iterator[None]:
    """SIGINT and SIGTERM raise the sign; a second Ctrl-C ends the process at once. In a thread, does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: object) -> None:
        if sign.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        sign.asked = "interrupted" if number == signal.SIGINT else "terminated"

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class Journal:
    """What a run leaves behind as it goes: `run.jsonl` and `metrics.jsonl`. Of several processes the first writes."""

    workspace: Workspace
    run_id: str
    writes: bool
    seconds_before: float
    began: float = field(default_factory=time.perf_counter)

    def event(
        self, kind: str, step: int = 0, note: str = "", data: Mapping[str, object] = MappingProxyType({})
    ) -> None:
        """One event, with the seconds that all starts of the run have spent until now."""
        if self.writes:
            seconds = round(self.seconds_before + time.perf_counter() - self.began, 3)
            line = {"kind": kind, "at": self.workspace.world.clock(), "step": step, "note": note}
            event = RunEvent.model_validate({**line, "data": {"seconds": seconds, **data}})
            self.workspace.add_event(self.run_id, event)

    def record(self, record: StepRecord) -> None:
        """One step."""
        if self.writes:
            path = self.workspace.run_folder(self.run_id) / "metrics.jsonl"
            append_line(path, record.to_json(), self.workspace.disk)

    def failed(self, step: int, error: BaseException) -> None:
        """That the run failed, and of what. A disk that takes no more must not hide the first error."""
        try:
            self.event("failed", step, str(error).splitlines()[0] if str(error) else type(error).__name__)
        except DiskError as refused:
            self.workspace.world.say(refused.what)


def train(
    plan: Plan, rows: Sequence[Row], base: Path, workspace: Workspace, run_id: str, room_of: RoomOf = room_for
) -> Run:
    """Do the steps of `plan` that the run has not done, on `rows`, on the base in the folder `base`.

    Writes in the run's folder: `run.jsonl` and `metrics.jsonl` as it goes, `state/` (two checkpoints), at the end
    `adapter/` (a plain PEFT folder). Stopped, it leaves a valid interrupted run; failed, a failed one, and raises.
    Where memory runs short it goes on by a smaller plan, which it stores; `room_of` says how much a process of a plan
    may still take. Started as one of several processes, it does its share. Raises `RequestError`, nothing written,
    where another process trains this run.
    """
    first = rank_of() == 0
    if not first:
        workspace = dataclasses.replace(
            workspace, world=dataclasses.replace(workspace.world, say=say_nothing, track=silent)
        )
    with alone(workspace.run_folder(run_id), first):
        course = Course(
            workspace, run_id, plan, Journal(workspace, run_id, first, workspace.run(run_id).seconds), room_of
        )
        with stop_on_signals(course.sign):
            course.run(rows, base)
    return workspace.run(run_id)


@contextmanager
def alone(folder: Path, first: bool) -> Iterator[None]:
    """Make sure that one process (of several the first) writes in a run's folder, and clear what dead ones left."""
    if not first:
        yield
        return
    with holding(folder / "lock") as ours:
        if not ours:
            raise RequestError(f"run {folder.name} is in training already", "wait for it, or stop it: llmops stop")
        clear_drafts(folder)
        (folder / STOP_FILE).unlink(missing_ok=True)
        yield


@dataclass
class Course:
    """One start of a run, from its last checkpoint until it is finished, stopped or failed."""

    workspace: Workspace
    run_id: str
    plan: Plan
    journal: Journal
    room_of: RoomOf
    step: int = 0

    def __post_init__(self) -> None:
        self.folder = self.workspace.run_folder(self.run_id)
        self.sign = StopSign(self.folder / STOP_FILE)

    def run(self, rows: Sequence[Row], base: Path) -> None:
        """Train, and leave the last event. A disk that refuses is told with the way to go on."""
        try:
            with joined(self.plan.knobs) as team:
                self._run(rows, base, team)
        except (DiskError, OSError) as error:
            self.journal.failed(self.step, error)
            if isinstance(error, OSError) and error.errno not in REFUSALS:
                raise
            what = error.what if isinstance(error, DiskError) else str(error)
            fix = f"free some space, or repair the disk, and go on with --resume {self.run_id}"
            raise LlmopsError(f"{what} (step {self.step})", fix) from error
        except BaseException as error:
            self.journal.failed(self.step, error)
            raise

    def _run(self, rows: Sequence[Row], base: Path, team: Team) -> None:
        plan = self.plan
        renderer = Renderer(load_tokenizer(base), plan.knobs.template)
        unlearned = {*plan.left_out, *plan.watched}
        kept = [row for row in rows if row.id not in unlearned]
        refuse(kept, [renderer.row(row) for row in kept], renderer)
        objective, most = plan.knobs.objective, plan.knobs.max_tokens
        # Made before rows are left out: for KTO a row's stranger is the row before it.
        learned = [one for one in lessons(renderer, rows, objective, most) if one.row not in unlearned]
        looked_at = lessons(renderer, self._watched(rows), objective, most)
        loop = build(base, plan.knobs, team)
        if plan.start is not None:
            begin_at(loop.model, self.folder / START_FOLDER, plan.start)
        try:
            file = self.folder / REFERENCE
            taught, aside = reference.of_run(loop, learned, looked_at, plan, file, self._heeding(team))
        except Stopped:
            self.journal.event("interrupted", 0, self.sign.seen() or "another process was stopped")
            return
        remarks = self._restore(loop)
        self.journal.event("started", loop.step, "; ".join(remarks), this_process())
        samples = Sampler(loop, renderer, plan, kept)
        with (
            tracking(plan, self.run_id, self.workspace, team.first) as shown,
            MemoryGuard(self.room_of(plan.knobs)).on() as guard,
        ):
            audience = Audience(samples, aside, shown)
            while short := self._steps(loop, taught, audience, guard):
                self._shrink(loop, max(lesson.tokens for lesson in learned), short)
        if loop.step < plan.knobs.steps and not enough(loop, plan.knobs):
            self._save(loop)
            self.journal.event("interrupted", loop.step, self.sign.seen() or "another process was stopped")
        elif team.first:
            note = keep_best(loop, plan.knobs)
            out = self.folder / "adapter"
            written = write_tuned(loop, self.plan, base, out, self.workspace.disk)
            self.journal.event("finished", loop.step, note, {"adapter_sha256": written})
        team.most(0)  # nobody leaves before the first has written

    def _heeding(self, team: Team) -> Track:
        """The workspace's track, which raises `Stopped` between two items once anybody was asked to stop."""

        def heeding(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
            for item in self.workspace.world.track(items, what, total):
                if team.most(int(bool(self.sign.seen()))):
                    raise Stopped
                yield item

        return heeding

    def _watched(self, rows: Sequence[Row]) -> list[Row]:
        """The rows whose loss is looked at: training rows set aside, or held-out ones."""
        ids = set(self.plan.watched)
        aside = [row for row in rows if row.id in ids]
        if aside or not ids:
            return aside
        return [row for row in self.workspace.rows(self.plan.dataset, "heldout") if row.id in ids]

    def _restore(self, loop: Loop) -> list[str]:
        """Bring every process to the newest good checkpoint of the first. Returns what was passed over."""
        remarks: list[str] = []
        if loop.team.first:
            made = [event for event in self.workspace.events(self.run_id) if event.kind in ("created", "shrunk")]
            restore(loop, self.folder / "state", frozenset(event.data["plan"] for event in made), remarks.append)
        for remark in remarks:
            self.workspace.world.say(remark)
        agree(loop, loop.team)
        self.step = loop.step
        return remarks

    def _steps(self, loop: Loop, taught: Batch, audience: Audience, guard: MemoryGuard) -> str:
        """Steps until the last one, or until somebody asks to stop. Returns why memory ran short, where it did."""
        knobs = self.plan.knobs
        if enough(loop, knobs):
            return ""
        try:
            steps = audience.see(run_steps(loop, taught, knobs, guard), loop, knobs)
            for record in self.workspace.world.track(steps, "training", knobs.steps - loop.step):
                self.step = record.step
                self.journal.record(record)
                if record.step < knobs.steps and record.step % knobs.checkpoint_every == 0:
                    self._save(loop)
                    self.journal.event("checkpoint", record.step)
                if loop.team.most(int(bool(self.sign.seen()))) or enough(loop, knobs):
                    break
        except NotFinite as error:
            raise error.named([lesson.row for lesson in taught.lessons]) from error
        except MemoryShort as error:
            return str(error)  # and not the error, whose traceback holds what has to go
        return ""

    def _shrink(self, loop: Loop, longest_tokens: int, why: str) -> None:
        """Save, and go on by a plan that needs less memory."""
        loop.optimiser.zero_grad()
        give_back_memory(self.plan.knobs.device)
        self._save(loop)
        smaller = shrink(self.plan, longest_tokens, why)
        tokens = smaller.knobs.pack_tokens
        note = f"memory ran short ({why}), so {tokens} tokens at once instead of {self.plan.knobs.pack_tokens}"
        if loop.team.first:
            self.workspace.put(smaller)
        self.journal.event("shrunk", loop.step, note, {"plan": smaller.id})
        self.workspace.world.say(f"{note}; plan {smaller.id} replaces {self.plan.id}")
        self.plan = smaller

    def _save(self, loop: Loop) -> None:
        if loop.team.first:
            save(loop, self.folder / "state", self.plan.id, self.workspace.disk)


def this_process() -> dict[str, object]:
    """What tells this process from every other, so that one that died is not taken for running."""
    import psutil

    return {"pid": os.getpid(), "host": platform.node(), "process_began": psutil.Process().create_time()}


def write_tuned(loop: Loop, plan: Plan, base: Path, out: Path, disk: Disk = DISK) -> str:
    """Write the adapter as PEFT does, its base named as in the recipe, or the whole model after full tuning.

    Returns the sha256 of its tensors.
    """
    check_weights(adapter_state(loop.model), loop.step)
    model = loop.accelerator.unwrap_model(loop.model)
    if out.exists():  # by a start that died before it could say so
        disk.remove(out)
    with building(out, disk) as draft:
        disk.write(draft, lambda path: save_tuned(model, base, plan.base.name, loop.start, path))
    hashes = {path.name: sha256_file(path) for path in sorted(out.glob("*.safetensors"))}
    return digest(hashes) if len(hashes) > 1 else next(iter(hashes.values()))


@dataclass
class Audience:
    """Those who look on while training goes: the fixed prompts, the watched rows, a tracker."""

    samples: Sampler
    watched: Batch
    shown: Tracking

    def see(self, records: Iterator[StepRecord], loop: Loop, knobs: Knobs) -> Iterator[StepRecord]:
        """The records, with what was seen at each."""
        for record in watched(records, loop, self.watched, knobs):
            whole = self.samples.with_samples(record)
            self.shown.log(whole)
            yield whole


class Sampler:
    """Lets the model in training answer three fixed prompts at the first step, halfway and at the end."""

    def __init__(self, loop: Loop, renderer: Renderer, plan: Plan, rows: Sequence[Row]) -> None:
        self.model = LocalModel(loop.model, renderer, plan.knobs.device)
        self.task = plan.recipe.task
        self.sampling = Sampling(max_tokens=8 if self.task.kind == "classify" else 24)
        typed: list[tuple[Message, ...]] = [
            (Message(role="user", content=text),) for text in plan.recipe.evaluation.prompts
        ]
        openings = [(Message(role="user", content=" ".join(row.text.split()[:OPENING_WORDS])),) for row in rows]
        own = openings if isinstance(self.task, Continue) else [row.prompt for row in rows]
        self.prompts = (typed or own)[:SAMPLE_TIMES]
        half = max(1, plan.knobs.steps // 2)
        self.steps = {1, half, plan.knobs.steps}

    def with_samples(self, record: StepRecord) -> StepRecord:
        """The record, with answers to the fixed prompts where it is time for them."""
        if record.step not in self.steps:
            return record
        asked = [prompt[-1].content for prompt in self.prompts]
        self.model.weights.eval()
        if isinstance(self.task, Continue):
            answers = self.model.go_on(asked, self.sampling)
        else:
            answers = self.model.reply(self.prompts, self.sampling)
        self.model.weights.train()
        return record.replace(samples=tuple(zip(asked, answers, strict=True)))
