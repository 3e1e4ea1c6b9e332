"""The flat loop: batches in, `StepRecord`s out. Recording, drawing and stopping happen around it, not in it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from llmops.core.errors import LlmopsError
from llmops.core.plan import Knobs
from llmops.core.run import StepRecord
from llmops.lm.adapters import add_adapter, starting_point
from llmops.lm.base import load_four_bit, load_weights
from llmops.lm.batches import epoch_order
from llmops.lm.fast import equip
from llmops.lm.machine import peak_memory_bytes
from llmops.training.guard import UNGUARDED, MemoryGuard, MemoryShort, check_step
from llmops.training.losses import Batch, shares
from llmops.training.processes import ALONE, Team, shard_base


@dataclass
class Loop:
    """What training changes: the trained weights, the optimiser's moments, and how many steps were done.

    `start` holds an adapter's first tensors where they are needed to save it (`lm/adapters.py`).
    `memory` (tensors) and `notes` (JSON) are what evaluation during training remembers; checkpoints hold them too.
    """

    model: Any
    optimiser: torch.optim.Optimizer
    accelerator: Accelerator
    step: int = 0
    team: Team = ALONE
    start: dict[str, torch.Tensor] | None = None
    memory: dict[str, torch.Tensor] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


def build(base: Path, knobs: Knobs, team: Team = ALONE) -> Loop:
    """Load the base in the planned precision, put a fresh float32 adapter on it, and an AdamW on what is trained."""
    torch.set_num_threads(knobs.threads)
    if team.size == 1:  # accelerate keeps one state a process, and this one may have trained on another device
        AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=knobs.device == "cpu", mixed_precision="no")
    load = load_four_bit if knobs.method.kind == "qlora" else load_weights
    weights = load(base, knobs.precision, knobs.device, knobs.attention)
    if knobs.gradient_checkpointing:
        weights.gradient_checkpointing_enable({"use_reentrant": False})
    model = add_adapter(weights, knobs)
    start = starting_point(model, knobs)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=knobs.learning_rate, weight_decay=knobs.weight_decay, fused=True)
    if knobs.shard == "full":
        shard_base(model, knobs)
    # Without DDP around it: gradients are summed once a step, not once a pack.
    model = equip(accelerator.prepare_model(model, evaluation_mode=True), knobs.decoder)
    return Loop(model, accelerator.prepare(optimiser), accelerator, team=team, start=start)


def learning_rate(knobs: Knobs, step: int) -> float:
    """Of step 0, 1, ...: up in a straight line over the warm-up, then by the schedule to zero after the last step."""
    warmup = max(1, round(knobs.steps * knobs.warmup_share))
    if step < warmup:
        return knobs.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, knobs.steps - warmup)
    left = {"linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2, "constant": 1.0}
    return knobs.learning_rate * left[knobs.schedule]


def batch_at(lengths: Sequence[int], knobs: Knobs, step: int) -> list[int]:
    """The rows of one step. It depends on the knobs and the step alone, so a resumed run sees the same order."""
    per_epoch = math.ceil(len(lengths) / knobs.batch_rows)
    return epoch_order(lengths, knobs.batch_rows, knobs.seed, step // per_epoch)[step % per_epoch]


def learn(loop: Loop, batch: Batch, knobs: Knobs) -> tuple[float, float]:
    """Add the gradient of a batch. Returns its loss, and the number of its lessons that the model gets right already.

    The batch goes through in packs, each with its share of the loss, so memory is that of one pack. Of several
    processes each takes its share of the packs, and loss and gradients are to be summed.
    """
    total, agreed = 0.0, 0.0
    for share in shares(loop.model, batch, knobs, loop.team):
        loop.accelerator.backward(share.loss)
        total += float(share.loss.detach())
        agreed += share.agreed
    return total, agreed


def guarded(loop: Loop, batch: Batch, knobs: Knobs, guard: MemoryGuard) -> tuple[float, float]:
    """`learn` on the packs of every process. Where memory runs short in one of them, all raise `MemoryShort`."""
    short: MemoryShort | None = None
    loss, agreed = 0.0, 0.0
    try:
        with guard.watched():
            loss, agreed = learn(loop, batch, knobs)
    except MemoryShort as error:
        if knobs.shard == "full":  # the others wait for parts of the base, not for a word
            raise LlmopsError(f"memory ran short ({error})", "free some, or plan with a lower --max-memory") from error
        short = error
    if loop.team.most(int(short is not None)):
        raise short or MemoryShort("another process ran short")
    return sum_up(loop, loss, agreed)


def sum_up(loop: Loop, loss: float, agreed: float) -> tuple[float, float]:
    """Sum gradients and both numbers over the processes; what a process has no gradient for counts as zero."""
    if loop.team.size == 1:
        return loss, agreed
    weights = [weight for weight in loop.model.parameters() if weight.requires_grad]
    for weight in weights:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
    total = torch.tensor([loss, agreed], device=weights[0].device)
    loop.team.sum([total, *(weight.grad for weight in weights)])
    return float(total[0]), float(total[1])


def run_steps(loop: Loop, taught: Batch, knobs: Knobs, guard: MemoryGuard = UNGUARDED) -> Iterator[StepRecord]:
    """Do the steps that are left on all that is `taught`, one record each.

    A loss or gradient that is not finite stops it within the step.

    Raises `NotFinite` with the step and the rows of its batch, `MemoryShort` where `guard` says so, on every process;
    the weights are then those of the step before.
    """
    lengths = [lesson.tokens for lesson in taught.lessons]
    trained = [weight for weight in loop.model.parameters() if weight.requires_grad]
    loop.model.train()
    while loop.step < knobs.steps:
        start = time.perf_counter()
        places = batch_at(lengths, knobs, loop.step)
        batch = taught.at(places)
        loop.optimiser.zero_grad()
        loss, agreed = guarded(loop, batch, knobs, guard)
        norm = float(loop.accelerator.clip_grad_norm_(trained, knobs.clip_norm))
        check_step(loop.step + 1, loss, norm, places)
        rate = learning_rate(knobs, loop.step)
        for group in loop.optimiser.param_groups:
            group["lr"] = rate
        loop.optimiser.step()
        loop.step += 1
        yield StepRecord(
            step=loop.step,
            of=knobs.steps,
            loss_nats=loss,
            learning_rate=rate,
            gradient_norm=norm,
            agreed=agreed / len(places) if math.isfinite(agreed) else None,
            tokens=sum(lengths[place] for place in places),
            trained_tokens=batch.learned_tokens,
            seconds=time.perf_counter() - start,
            memory_bytes=peak_memory_bytes(knobs.device),
        )
