"""`sweep`: recipes that differ in a few knobs, trained and measured, several at a time where the machine allows.

Each member is trained by `llmops train` and measured by `llmops evaluate`, in a process of its own, so that whatever
ends this one ends none of them. What became of a member is read off its runs and reports, never kept twice.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llmops.core.context import say_nothing
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.experiments import Board, BoardLine, Knob, Member, MemberStatus, Sweep
from llmops.core.plan import Plan, Wishes
from llmops.core.recipe import Recipe
from llmops.core.report import EvalReport, Subject
from llmops.core.run import Run
from llmops.core.value import digest
from llmops.pipeline.judge import measure_cheap
from llmops.pipeline.make import begun, plan, prepare
from llmops.store.workspace import Workspace

LOOK_S = 0.5
GRACE_S = 300  # a step may take so long before a member that was asked to stop is left to itself
STATUS: dict[str, MemberStatus] = {
    "created": "waiting",
    "running": "training",
    "interrupted": "interrupted",
    "failed": "failed",
    "finished": "trained",
}


def vary(recipe: Recipe, **knobs: Any) -> tuple[Recipe, ...]:
    """Every combination of some knobs: `vary(recipe, method__rank=(4, 16), training__learning_rate=(1e-4, 1e-3))`.

    Raises `RequestError` naming the knob, and the nearest one, where a recipe has no such field or value.
    """
    from llmops.experiments.vary import combinations, knobs_of

    return tuple(_varied(recipe, sets) for sets in combinations(knobs_of(knobs)))


def _varied(recipe: Recipe, sets: Sequence[str]) -> Recipe:
    from llmops.data.recipes import apply_sets

    return apply_sets(recipe, sets)


def sweep(recipe: Recipe, knobs: Mapping[str, Any] | Sequence[str], at: Workspace, wishes: Wishes = Wishes()) -> Board:
    """Train and measure every combination of `knobs`, and the cheap rows beside them once. Returns the board.

    Knobs are `{"method.rank": (4, 16)}` or, as typed, `["method.rank=4,16"]`.

    Asked for again, it goes on where it was: what is measured is not done again, what was interrupted is resumed.
    `wishes` are those of each member. Raises `LlmopsError` where a member failed; what is finished stays.
    """
    from llmops.experiments.vary import knobs_of, knobs_typed

    asked = knobs_of(knobs) if isinstance(knobs, Mapping) else knobs_typed(knobs)
    made = _planned(recipe, asked, at, wishes)
    done = sum(_standing(member, at)[0] == "measured" for member in made.members)
    at.world.say(f"sweep {made.id}: {len(made.members)} recipes, {made.jobs} at a time ({made.because}); {done} done")
    failed = Course(made, at).run()
    _measure_cheap(made, at)
    if failed:
        raise LlmopsError(
            f"{len(failed)} of {len(made.members)} recipes failed: {failed[0]}",
            f"see {_log(made, 0, at).parent}; the same command tries them again",
        )
    return board_of(made, at)


def _planned(recipe: Recipe, knobs: tuple[Knob, ...], at: Workspace, wishes: Wishes) -> Sweep:
    """The sweep as it was planned when it was first asked for, else planned now. Rows are prepared once."""
    from llmops.experiments.vary import combinations

    variants = [(sets, _varied(recipe, sets)) for sets in combinations(knobs)]
    datasets = {}
    for _, variant in variants:
        if _rows(variant) not in datasets:
            datasets[_rows(variant)] = prepare(variant, at)
    manifests = [datasets[_rows(variant)] for _, variant in variants]
    for old in reversed(at.all(Sweep)):
        same = old.recipe == recipe and old.knobs == knobs and old.wishes == wishes
        plans = [at.get(Plan, member.plan) for member in old.members] if same else []
        if same and [plan.dataset for plan in plans] == [manifest.id for manifest in manifests]:
            return old
    first = plan(variants[0][1], manifests[0], at, wishes)
    jobs, because, share = _shared(first, len(variants), wishes)
    quiet = replace(at, world=replace(at.world, say=say_nothing))  # each would say the same
    plans = [
        first if jobs == 1 and not place else plan(variant, manifest, quiet, share)
        for place, ((_, variant), manifest) in enumerate(zip(variants, manifests, strict=True))
    ]
    members = tuple(Member(sets=sets, plan=made.id) for (sets, _), made in zip(variants, plans, strict=True))
    made = Sweep(recipe=recipe, knobs=knobs, wishes=wishes, members=members, jobs=jobs, because=because)
    at.put(made)
    return made


def _rows(recipe: Recipe) -> str:
    """What decides which rows are prepared, and how they read."""
    return digest([recipe.data.to_json(), recipe.task.to_json(), recipe.objective.to_json()])


def _shared(first: Plan, members: int, wishes: Wishes) -> tuple[int, str, Wishes]:
    """(how many at a time, why, what each may have of this machine)."""
    from llmops.experiments.vary import SPARE, jobs_for
    from llmops.lm.memory import free_bytes

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    taken = (wishes.threads or 1) * (wishes.processes or 1)
    free, on_gpu = free_bytes(), first.knobs.device.startswith("cuda")
    jobs, because = jobs_for(members, max(1, cores // taken), free, first.memory_bytes_expected, on_gpu)
    if jobs == 1:
        return jobs, because, wishes
    each = wishes.max_memory_gb or round(SPARE * free / jobs / 1e9, 2)
    return jobs, because, wishes.replace(threads=wishes.threads or cores // jobs, max_memory_gb=each)


def _standing(member: Member, at: Workspace) -> tuple[MemberStatus, Run | None, EvalReport | None]:
    """(how far it is, its newest run, that run's report)."""
    runs = [run_id for run_id in at.run_ids() if at.events(run_id)[0].data.get("plan") == member.plan]
    if not runs:
        return "waiting", None, None
    run = at.run(runs[-1])
    if run.status != "finished":
        return STATUS[run.status], run, None
    suite = at.get(Plan, member.plan).dataset
    reports = [report for report in at.reports_of(run.id) if report.suite.dataset == suite]
    return ("measured", run, reports[-1]) if reports else ("trained", run, None)


def _log(made: Sweep, place: int, at: Workspace) -> Path:
    return at.root / "sweeps" / "logs" / f"{made.id}-{place}.txt"


def launched(arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """`llmops` with these arguments, in a session of its own: Ctrl-C in a terminal does not reach it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "llmops", *arguments]
    with log.open("ab") as out:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )


@dataclass
class Course:
    """One go at a sweep: its members in turn, as many at a time as the machine holds."""

    made: Sweep
    at: Workspace
    going: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    given_up: dict[int, str] = field(default_factory=dict)

    def run(self) -> list[str]:
        """Train and measure what is not measured yet. Returns what became of those that failed, one line each."""
        try:
            while self._step():
                time.sleep(LOOK_S)
        except KeyboardInterrupt:
            self._stop()
            self.at.world.say(f"sweep {self.made.id} is interrupted; the same command goes on where it was")
            raise
        return list(self.given_up.values())

    def _step(self) -> bool:
        """Look at who has ended, and start whom there is room for. Returns whether there is more to do."""
        for place in [place for place, process in self.going.items() if process.poll() is not None]:
            self._ended(place, self.going.pop(place).returncode)
        waiting = [place for place in range(len(self.made.members)) if place not in {*self.going, *self.given_up}]
        if len(self.going) == self.made.jobs or not waiting:
            return bool(self.going)
        busy, more = len(self.going), bool(self.going)
        for place in waiting:
            status, run, _ = _standing(self.made.members[place], self.at)
            if status == "measured":
                continue
            more = True
            if status == "training":  # by a process of an earlier go that lives on
                busy += 1
            elif busy < self.made.jobs:
                busy += 1
                self.going[place] = self._start(place, status, run)
        return more

    def _start(self, place: int, status: MemberStatus, run: Run | None) -> subprocess.Popen[bytes]:
        """The process of a member's next step. Its run is made here, so that a second go finds it."""
        if status == "trained" and run is not None:
            verb = ["evaluate", run.id]
        else:
            planned = self.at.get(Plan, self.made.members[place].plan)
            verb = ["train", "--resume", run.id if run else begun(planned, self.at, None)]
        verb += ["--workspace", str(self.at.root), *(["--allow-download"] if self.at.world.allow_download else [])]
        return launched(verb, _log(self.made, place, self.at))

    def _ended(self, place: int, code: int) -> None:
        """Say what a member has come to; where its process ended badly, it is left for the next go."""
        member = self.made.members[place]
        status, run, report = _standing(member, self.at)
        if code and status != "training":  # else a process of an earlier go has it
            log = _log(self.made, place, self.at).read_text(errors="replace").splitlines()
            said = [line.removeprefix("error: ") for line in log if line.startswith("error: ")]
            self.given_up[place] = f"{member.name} ({status}): {said[-1] if said else f'exit code {code}'}"
            self.at.world.say(f"FAILED {self.given_up[place]}")
        elif report is not None:
            score = report.main
            self.at.world.say(f"{member.name}: {score.metric} {score.value:.3f} ({score.low:.3f} to {score.high:.3f})")
        elif run is not None:
            self.at.world.say(f"{member.name}: trained in {run.seconds:.0f} s (run {run.id})")

    def _stop(self) -> None:
        """Ask those that train to save themselves, and wait for them."""
        for process in self.going.values():
            process.send_signal(signal.SIGINT)
        for process in self.going.values():
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                self.at.world.say(f"process {process.pid} goes on by itself")


def _measure_cheap(made: Sweep, at: Workspace) -> None:
    """The cheap rows, once for each set of rows and base."""
    seen: dict[tuple[str, str], str] = {}
    for member in made.members:
        planned = at.get(Plan, member.plan)
        seen.setdefault((planned.dataset, planned.base.sha256), planned.id)
    for plan_id in seen.values():
        if not at.reports_of(plan_id):
            measure_cheap(at.get(Plan, plan_id), at)


def board_of(made: Sweep, at: Workspace) -> Board:
    """A sweep as it stands: its members, and the cheap rows beside them, on the rows of its first member."""
    from llmops.experiments.board import rank

    lines, reports = [], {}
    for member in made.members:
        status, run, report = _standing(member, at)
        subject = Subject(kind="tuned", ref=run.id) if run else None
        lines.append(
            BoardLine(
                name=member.name,
                subject=subject,
                status=status,
                report=report.id if report else None,
                seconds=run.seconds if run else None,
                note=run.note if run and status in ("failed", "interrupted") else "",
            )
        )
        if report is not None:
            reports[report.id] = report
        for cheap in at.reports_of(member.plan):
            reports[cheap.id] = cheap
            lines.append(BoardLine(name=cheap.subject.kind, subject=cheap.subject, status="measured", report=cheap.id))
    suites = {report.suite.id for report in reports.values()}
    if len(suites) > 1:
        raise RequestError(
            f"sweep {made.id} varies its rows, so there are {len(suites)} different exams", "compare within one of them"
        )
    return rank(lines, reports, made.id)
