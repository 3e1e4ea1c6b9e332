"""Trackers: the records of a run shown in a tool that people have already. `NAME`, or `NAME=WHERE` for another place.

Each is one of `accelerate.tracking`, opened so that it writes below the workspace: nothing leaves this machine unless
WHERE names another one. `metrics.jsonl` holds everything with any tracker and with none.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llmops.core.errors import LlmopsError, RequestError
from llmops.core.plan import Plan
from llmops.core.run import StepRecord
from llmops.core.value import Value
from llmops.store.workspace import Workspace

NONE = "none"
NUMBERS = ("loss_nats", "heldout_loss_nats", "learning_rate", "gradient_norm", "memory_bytes")


def _tensorboard(project: str, run_id: str, folder: Path, where: str) -> Any:
    from accelerate.tracking import TensorBoardTracker

    return TensorBoardTracker(run_id, where or str(folder))


def _mlflow(project: str, run_id: str, folder: Path, where: str) -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it is on where nobody says so
    import mlflow
    from accelerate.tracking import MLflowTracker

    for chatty in ("mlflow", "alembic"):  # they tell of every table that they make
        logging.getLogger(chatty).setLevel(logging.WARNING)
    mlflow.set_tracking_uri(where or f"sqlite:///{folder / 'mlflow.db'}")
    return MLflowTracker(project, logging_dir=None if where else folder.as_uri(), run_name=run_id)


def _wandb(project: str, run_id: str, folder: Path, where: str) -> Any:
    from accelerate.tracking import WandBTracker

    return WandBTracker(project, name=run_id, dir=str(folder), mode=where or "offline")


def _trackio(project: str, run_id: str, folder: Path, where: str) -> Any:
    os.environ.setdefault("TRACKIO_DIR", str(folder))
    from accelerate.tracking import TrackioTracker

    return TrackioTracker(project, name=run_id, **({"space_id": where} if where else {}))


# What WHERE means: a folder, a tracking URI, a mode (online), a space.
TRACKERS: dict[str, Callable[[str, str, Path, str], Any]] = {
    "mlflow": _mlflow,
    "tensorboard": _tensorboard,
    "trackio": _trackio,
    "wandb": _wandb,
}


def check_tracker(asked: str | None) -> None:
    """Raise `RequestError` where there is no such tracker, or it is not installed. Loads nothing."""
    if asked is None or asked == NONE:
        return
    name = asked.partition("=")[0]
    if name not in TRACKERS:
        raise RequestError(f"there is no tracker {name!r}", f"take one of {', '.join(TRACKERS)}")
    if find_spec(name) is None:
        raise RequestError(f"tracker {name} is not installed", f"pip install 'llmops[{name}]'")


class Tracking:
    """An open tracker, or none. One that fails is left out from then on; the training goes on."""

    def __init__(self, tracker: Any, say: Callable[[str], None]) -> None:
        self._tracker = tracker
        self._say = say

    def log(self, record: StepRecord) -> None:
        """One step."""
        numbers = {name: value for name in NUMBERS if (value := getattr(record, name)) is not None}
        numbers["tokens_per_s"] = record.tokens / record.seconds if record.seconds else 0.0
        self.attempt("log", numbers, step=record.step)

    def attempt(self, what: str, *values: Any, **named: Any) -> None:
        """Call the tracker, if there still is one."""
        if self._tracker is None:
            return
        try:
            with redirect_stdout(sys.stderr):  # some talk there, where --json has one document
                getattr(self._tracker, what)(*values, **named)
        except Exception as error:  # each tracker raises its own kinds; none of them is worth a training
            self._say(f"the tracker failed ({type(error).__name__}: {error}); the run goes on without it")
            self._tracker = None


@contextmanager
def tracking(plan: Plan, run_id: str, at: Workspace, first: bool = True) -> Iterator[Tracking]:
    """The plan's tracker, told the knobs, and closed at the end; of several processes the first has one.

    Raises `LlmopsError` where it does not open.
    """
    name, _, where = plan.knobs.tracker.partition("=")
    if name == NONE or not first:
        yield Tracking(None, at.world.say)
        return
    check_tracker(name)
    folder = at.root / "trackers" / name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with redirect_stdout(sys.stderr):
            tracker = TRACKERS[name](plan.recipe.name, run_id, folder.resolve(), where)
            tracker.start()
    except Exception as error:  # each tracker raises its own kinds
        raise LlmopsError(f"tracker {name} does not open: {error}", "leave out --tracker, or repair it") from error
    open_one = Tracking(tracker, at.world.say)
    open_one.attempt("store_init_configuration", flat(plan.knobs))
    try:
        yield open_one
    finally:
        open_one.attempt("finish")


def flat(value: Value) -> dict[str, str | int | float | bool]:
    """Knobs as a tracker takes them: scalars by name."""
    plain = value.to_json().items()
    return {name: part if isinstance(part, str | int | float | bool) else str(part) for name, part in plain}
