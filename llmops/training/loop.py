"""The flat loop: batches in, `StepRecord`s out. Recording, drawing and stopping happen around it, not in it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from llmops.core.errors import LlmopsError
from llmops.core.plan import Knobs
from llmops.core.run import StepRecord
from llmops.lm.adapters import add_adapter, starting_point
from llmops.lm.base import load_four_bit, load_weights
from llmops.lm.batches import epoch_order
from llmops.lm.lessons import Lesson
from llmops.lm.machine import peak_memory_bytes
from llmops.training.losses import Batch, shares


@dataclass
class Loop:
    """What training changes: the trained weights, the optimiser's moments, and how many steps were done.

    `start` holds an adapter's first tensors where they are needed to save it (`lm/adapters.py`).
    """

    model: Any
    optimiser: torch.optim.Optimizer
    accelerator: Accelerator
    step: int = 0
    start: dict[str, torch.Tensor] | None = None


def build(base: Path, knobs: Knobs) -> Loop:
    """Load the base in the planned precision, put a fresh float32 adapter on it, and an AdamW on what is trained."""
    torch.set_num_threads(knobs.threads)
    accelerator = Accelerator(cpu=knobs.device == "cpu", mixed_precision="no")
    load = load_four_bit if knobs.method.kind == "qlora" else load_weights
    weights = load(base, knobs.precision, knobs.device, knobs.attention)
    if knobs.gradient_checkpointing:
        weights.gradient_checkpointing_enable({"use_reentrant": False})
    model = add_adapter(weights, knobs)
    start = starting_point(model, knobs)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=knobs.learning_rate, weight_decay=knobs.weight_decay, fused=True)
    model, optimiser = accelerator.prepare(model, optimiser)
    return Loop(model, optimiser, accelerator, start=start)


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
    """Add the gradient of a batch. Returns its loss, and the share of it that the model already gets right (or NaN)."""
    total, agreed = 0.0, 0.0
    for share in shares(loop.model, knobs.objective, batch, knobs.device):
        loop.accelerator.backward(share.loss)
        total += float(share.loss.detach())
        agreed += share.agreed
    return total, agreed / len(batch.lessons)


def run_steps(
    loop: Loop, lessons: Sequence[Lesson], knobs: Knobs, start_BE: torch.Tensor | None = None
) -> Iterator[StepRecord]:
    """Do the steps that are left, one record each. A loss or gradient that is not finite stops it within the step.

    `start_BE` are the log-probabilities before step 0 (`training/reference.py`), where the objective needs them.
    Raises `LlmopsError` that names the step and the rows of its batch; the weights are then those of the step before.
    """
    lengths = [lesson.tokens for lesson in lessons]
    trained = [weight for weight in loop.model.parameters() if weight.requires_grad]
    loop.model.train()
    while loop.step < knobs.steps:
        start = time.perf_counter()
        places = batch_at(lengths, knobs, loop.step)
        batch = Batch([lessons[place] for place in places], None if start_BE is None else start_BE[places])
        loss, agreed = learn(loop, batch, knobs)
        norm = float(loop.accelerator.clip_grad_norm_(trained, knobs.clip_norm))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            loop.optimiser.zero_grad()
            raise LlmopsError(
                f"step {loop.step + 1}: loss {loss}, gradient norm {norm}, in training rows {places}",
                "look at those rows with 'llmops inspect', or lower training.learning_rate",
            )
        rate = learning_rate(knobs, loop.step)
        for group in loop.optimiser.param_groups:
            group["lr"] = rate
        loop.optimiser.step()
        loop.optimiser.zero_grad()
        loop.step += 1
        yield StepRecord(
            step=loop.step,
            of=knobs.steps,
            loss_nats=loss,
            learning_rate=rate,
            gradient_norm=norm,
            agreed=agreed if math.isfinite(agreed) else None,
            tokens=sum(lengths[place] for place in places),
            trained_tokens=batch.learned_tokens,
            seconds=time.perf_counter() - start,
            memory_bytes=peak_memory_bytes(knobs.device),
        )
