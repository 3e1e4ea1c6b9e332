"""`Run`: what happened in one training. Its status is a fold of events; an interrupted run is a valid value."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from llmops.core.value import Value

Status = Literal["created", "running", "interrupted", "failed", "finished"]


class RunEvent(Value):
    """One line of `run.jsonl`: appended, never changed. `data["seconds"]` counts all training until then.

    `shrunk` says that memory ran short and that the run goes on by the plan `data["plan"]`.
    """

    kind: Literal["created", "started", "checkpoint", "shrunk", "interrupted", "failed", "finished"]
    at: datetime
    step: int = 0
    note: str = ""
    data: dict[str, Any] = Field(default_factory=dict)


class StepRecord(Value):
    """One line of `metrics.jsonl`: what one optimiser step did. The loss of SFT is nats a learned token."""

    step: int
    of: int
    loss_nats: float
    agreed: float | None = Field(None, description="share of the pairs or thumbs that the policy agrees with")
    learning_rate: float
    gradient_norm: float
    tokens: int = Field(description="real tokens read in this step, padding not counted")
    trained_tokens: int
    seconds: float
    memory_bytes: int = Field(description="peak resident memory of the process so far")
    heldout_loss_nats: float | None = Field(None, description="of the watched rows, where it was time to look")
    samples: tuple[tuple[str, str], ...] = Field((), description="(prompt, answer) of the fixed prompts, now and then")


class Run(Value):
    """A training as it stands. `id` is `<date>-<name>-<hex>`: an event, so it is named by when it happened."""

    id: str
    name: str
    plan: str = Field(description="the plan it goes by now; see its events for an earlier one")
    dataset: str
    status: Status
    step: int
    steps: int
    created: datetime
    updated: datetime
    seconds: float = Field(description="spent training, over all its starts")
    adapter_sha256: str | None = None
    note: str = ""


def fold_run(run_id: str, events: Iterable[RunEvent]) -> Run:
    """The state of a run from its events, oldest first. Raises `ValueError` where the first is not `created`."""
    rows = list(events)
    if not rows or rows[0].kind != "created":
        raise ValueError(f"run {run_id} does not begin with a 'created' event")
    first, last = rows[0], rows[-1]
    status: dict[str, Status] = {"started": "running", "checkpoint": "running", "shrunk": "running"}
    plans = [event.data["plan"] for event in rows if event.kind in ("created", "shrunk")]
    return Run(
        id=run_id,
        name=first.data["name"],
        plan=plans[-1],
        dataset=first.data["dataset"],
        status=status.get(last.kind, last.kind),
        step=max(event.step for event in rows),
        steps=first.data["steps"],
        created=first.at,
        updated=last.at,
        seconds=max(float(event.data.get("seconds", 0.0)) for event in rows),
        adapter_sha256=last.data.get("adapter_sha256"),
        note=last.note,
    )
