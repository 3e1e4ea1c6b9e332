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
from llmops.lm.adapters import add_adapter
from llmops.lm.base import load_weights
from llmops.lm.batches import epoch_order
from llmops.lm.machine import peak_memory_bytes
from llmops.lm.pack import hidden_states, logits_of, pack_rows, pack_tokens
from llmops.lm.render import Example


@dataclass
class Loop:
    """What training changes: the adapter's weights, the optimiser's moments, and how many steps were done."""

    model: Any
    optimiser: torch.optim.Optimizer
    accelerator: Accelerator
    step: int = 0


def build(base: Path, knobs: Knobs) -> Loop:
    """Load the frozen base in the planned precision, put a fresh float32 adapter on it, and an AdamW on that."""
    torch.set_num_threads(knobs.threads)
    accelerator = Accelerator(cpu=knobs.device == "cpu", mixed_precision="no")
    weights = load_weights(base, knobs.precision, knobs.device, knobs.attention)
    model = add_adapter(weights, knobs)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=knobs.learning_rate, weight_decay=knobs.weight_decay, fused=True)
    model, optimiser = accelerator.prepare(model, optimiser)
    return Loop(model, optimiser, accelerator)


def learning_rate(knobs: Knobs, step: int) -> float:
    """Of step 0, 1, ...: up in a straight line over the warm-up, then down in one to zero after the last step."""
    warmup = max(1, round(knobs.steps * knobs.warmup_share))
    if step < warmup:
        return knobs.learning_rate * (step + 1) / warmup
    return knobs.learning_rate * (knobs.steps - step) / max(1, knobs.steps - warmup)


def batch_at(lengths: Sequence[int], knobs: Knobs, step: int) -> list[int]:
    """The rows of one step. It depends on the knobs and the step alone, so a resumed run sees the same order."""
    per_epoch = math.ceil(len(lengths) / knobs.batch_rows)
    return epoch_order(lengths, knobs.batch_rows, knobs.seed, step // per_epoch)[step % per_epoch]


def learn(loop: Loop, examples: Sequence[Example], knobs: Knobs) -> tuple[float, int]:
    """Add the gradient of a batch. Returns (mean cross-entropy in nats of its trained tokens, their number).

    A token at position t is predicted from position t - 1, and the head sees those positions only. The batch goes
    through in packs (`lm/pack.py`), each with its share of the mean, so memory is that of one pack.
    """
    learned = sum(sum(example.trained[1:]) for example in examples)
    total = 0.0
    for pack in pack_rows([example.ids for example in examples], pack_tokens(knobs.device)):
        hidden_TD = hidden_states(loop.model, pack, knobs.device)
        before: list[int] = []
        targets: list[int] = []
        for index, path in zip(pack.rows, pack.paths, strict=True):
            example = examples[index]
            places = [place for place in range(1, len(path)) if example.trained[place]]
            before += [path[place - 1] for place in places]
            targets += [example.ids[place] for place in places]
        logits_NV = logits_of(loop.model, hidden_TD[torch.tensor(before, device=knobs.device)])
        target_N = torch.tensor(targets, device=knobs.device)
        loss = torch.nn.functional.cross_entropy(logits_NV, target_N, reduction="sum") / learned
        loop.accelerator.backward(loss)
        total += float(loss.detach())
    return total, learned


def run_steps(loop: Loop, examples: Sequence[Example], knobs: Knobs) -> Iterator[StepRecord]:
    """Do the steps that are left, one record each. A loss or gradient that is not finite stops it within the step.

    Raises `LlmopsError` that names the step and the rows of its batch; the weights are then those of the step before.
    """
    lengths = [len(example.ids) for example in examples]
    trained = [weight for weight in loop.model.parameters() if weight.requires_grad]
    loop.model.train()
    while loop.step < knobs.steps:
        start = time.perf_counter()
        batch = batch_at(lengths, knobs, loop.step)
        loss, learned = learn(loop, [examples[index] for index in batch], knobs)
        norm = float(loop.accelerator.clip_grad_norm_(trained, knobs.clip_norm))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            loop.optimiser.zero_grad()
            raise LlmopsError(
                f"step {loop.step + 1}: loss {loss}, gradient norm {norm}, in training rows {batch}",
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
            tokens=sum(lengths[index] for index in batch),
            trained_tokens=learned,
            seconds=time.perf_counter() - start,
            memory_bytes=peak_memory_bytes(knobs.device),
        )
