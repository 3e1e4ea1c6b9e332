"""Proofs that two processes learn what one learns, and that no other number of them starts."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmops.core.plan import Plan
from llmops.core.proof import CheckResult, Size, caught
from llmops.training.processes import PLACE, Team
from llmops.training.prove_crashes import forked, silence
from llmops.training.prove_sample import Sample, plan_in, sample

if TYPE_CHECKING:
    import torch

SAME = 1e-5  # nats; a sum of float32 numbers in another order
WORLDS = (None, 1, 3)  # none: no variables of torchrun at all; one: what `accelerate launch --cpu` once started
PATIENCE_S = 120


def processes(size: Size, folder: Path) -> CheckResult:
    """Two processes over gloo give the losses of one; one, three, and two that do not sum gradients are found out."""
    one = sample(folder / "one", steps={"ci": 8, "soak": 24}[size], dropout=0.0)
    alone = losses(one, [None])
    two = Sample(one.copy(folder / "two").folder, for_processes(one.plan, 2))
    far = apart(alone, losses(two, members(2)))
    worlds = [[None] if world is None else members(world) for world in WORLDS]
    refused = sum(not losses(two, world) for world in worlds)
    drifted = apart(alone, losses(two, members(2), harmed=True))
    found = refused + (drifted > SAME)
    note = f"largest difference of a loss {far:.1e} nats; with gradients not summed {drifted:.1e}"
    return caught("two processes learn what one learns", found, len(WORLDS) + 1, int(far > SAME), 1, note)


def losses(made: Sample, world: Sequence[Mapping[str, str] | None], harmed: bool = False) -> list[float]:
    """The loss of each step, the run begun anew by one process for each place in `world`; [] where it failed."""
    made.begin()
    started = [forked(member, str(made.folder), place, harmed) for place in world]
    for process in started:
        process.join(PATIENCE_S)
    late = [process for process in started if process.exitcode is None]
    for process in late:
        process.kill()
        process.join()
    if any(process.exitcode for process in started):
        return []
    return [record.loss_nats for record in made.at.steps(made.at.run_ids()[-1])]


def apart(some: Sequence[float], others: Sequence[float]) -> float:
    """The largest difference of two curves; infinite where they are not of the same steps."""
    if len(some) != len(others) or not some:
        return float("inf")
    return max(abs(a - b) for a, b in zip(some, others, strict=True))


def members(world: int) -> list[dict[str, str]]:
    """torchrun's variables for each process of a world on this machine."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port = door.getsockname()[1]
    return [
        dict(zip(PLACE, (str(rank), str(world), str(rank), "127.0.0.1", str(port)), strict=True))
        for rank in range(world)
    ]


def member(folder: str, place: Mapping[str, str] | None, harmed: bool) -> None:
    """What one process does: it takes its place and trains. Harmed, it sums the loss and keeps its gradients."""
    silence()
    for name in PLACE:
        os.environ.pop(name, None)
    os.environ.update(place or {})
    if harmed:
        setattr(Team, "sum", sum_of_losses)  # noqa: B010, mypy allows no plain assignment
    plan_in(Path(folder)).train()


def sum_of_losses(team: Team, tensors: Sequence[torch.Tensor], summed: Callable[..., None] = Team.sum) -> None:
    """The planted fault: of what a step sums, only the first, its loss."""
    summed(team, tensors[:1])


def for_processes(plan: Plan, number: int) -> Plan:
    """The same plan for another number of processes."""
    decided = tuple(one.replace(value=number) if one.field == "processes" else one for one in plan.decisions)
    return plan.replace(knobs=plan.knobs.replace(processes=number), decisions=decided)
