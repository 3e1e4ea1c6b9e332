"""The door: `train` carries out a `Plan` and leaves a `Run`, whatever happens on the way."""

from __future__ import annotations

import os
import platform
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from llmops.core.dataset import Message, Row
from llmops.core.errors import LlmopsError
from llmops.core.plan import Plan
from llmops.core.run import Run, RunEvent, StepRecord
from llmops.core.serving import Sampling
from llmops.core.tasks import Continue
from llmops.core.value import digest
from llmops.lm.adapters import adapter_state, save_tuned
from llmops.lm.base import load_tokenizer
from llmops.lm.lessons import lessons
from llmops.lm.model import LocalModel
from llmops.lm.render import Renderer
from llmops.store.files import append_line, building, sha256_file
from llmops.store.workspace import Workspace
from llmops.training import reference
from llmops.training.checkpoint import restore, save
from llmops.training.loop import Loop, build, run_steps

STOP_FILE = "stop"
REFERENCE = "reference.safetensors"
SAMPLE_TIMES = 3
OPENING_WORDS = 8  # of a text, which the model goes on with


@dataclass
class StopSign:
    """Raised by Ctrl-C, SIGTERM or `llmops stop`; training looks at it after every step."""

    file: Path
    asked: str = ""

    def seen(self) -> str:
        """Why to stop now, or nothing."""
        return self.asked or ("stopped by 'llmops stop'" if self.file.exists() else "")


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


def train(plan: Plan, rows: Sequence[Row], base: Path, workspace: Workspace, run_id: str) -> Run:
    """Do the steps of `plan` that the run has not done, on `rows`, on the base in the folder `base`.

    Writes in the run's folder: `run.jsonl` and `metrics.jsonl` as it goes, `state/` (two checkpoints), at the end
    `adapter/` (a plain PEFT folder). Stopped, it leaves a valid interrupted run; failed, a failed one, and raises.
    """
    folder = workspace.run_folder(run_id)
    knobs = plan.knobs
    sign = StopSign(folder / STOP_FILE)
    sign.file.unlink(missing_ok=True)
    before = workspace.run(run_id).seconds
    began = time.perf_counter()

    def event(kind: str, step: int = 0, note: str = "", data: Mapping[str, object] = MappingProxyType({})) -> None:
        seconds = round(before + time.perf_counter() - began, 3)
        moment = workspace.world.clock()
        line = {"kind": kind, "at": moment, "step": step, "note": note, "data": {"seconds": seconds, **data}}
        workspace.add_event(run_id, RunEvent.model_validate(line))

    loop: Loop | None = None
    try:
        renderer = Renderer(load_tokenizer(base), knobs.template)
        kept = [row for row in rows if row.id not in set(plan.left_out)]
        # Made before rows are left out: for KTO a row's stranger is the row before it.
        made = lessons(renderer, rows, knobs.objective, knobs.max_tokens)
        taught = [lesson for lesson in made if lesson.row not in set(plan.left_out)]
        loop = build(base, knobs)
        start = reference.of_run(loop, taught, plan, folder / REFERENCE, workspace.world.track)
        restore(loop, folder / "state", workspace.world.say)
        event("started", loop.step, data=this_process())
        samples = Sampler(loop, renderer, plan, kept)
        with stop_on_signals(sign):
            steps = run_steps(loop, taught, knobs, start)
            for record in workspace.world.track(steps, "training", knobs.steps - loop.step):
                append_line(folder / "metrics.jsonl", samples.with_samples(record).to_json())
                if record.step % knobs.checkpoint_every == 0 and record.step < knobs.steps:
                    save(loop, folder / "state")
                    event("checkpoint", record.step)
                if sign.seen() and record.step < knobs.steps:
                    break
        if loop.step < knobs.steps:
            save(loop, folder / "state")
            event("interrupted", loop.step, sign.seen())
            return workspace.run(run_id)
        adapter_sha256 = write_adapter(loop, plan, base, folder / "adapter")
    except BaseException as error:
        event("failed", loop.step if loop else 0, str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise
    event("finished", loop.step, data={"adapter_sha256": adapter_sha256})
    return workspace.run(run_id)


def this_process() -> dict[str, object]:
    """What tells this process from every other, so that one that died is not taken for running."""
    import psutil

    return {"pid": os.getpid(), "host": platform.node(), "process_began": psutil.Process().create_time()}


def write_adapter(loop: Loop, plan: Plan, base: Path, out: Path) -> str:
    """Write the adapter as PEFT does, its base named as in the recipe, or the whole model after full tuning.

    Returns the sha256 of its tensors.
    """
    for name, tensor in adapter_state(loop.model).items():
        if not bool(tensor.isfinite().all()):
            raise LlmopsError(f"the trained adapter holds NaN or infinity in {name!r}", "lower training.learning_rate")
    with building(out) as draft:
        save_tuned(loop.accelerator.unwrap_model(loop.model), base, plan.base.name, loop.start, draft)
    hashes = {path.name: sha256_file(path) for path in sorted(out.glob("*.safetensors"))}
    return digest(hashes) if len(hashes) > 1 else next(iter(hashes.values()))


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
