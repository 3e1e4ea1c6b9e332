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

from llmops.core.plan import Knobs
from llmops.core.run import StepRecord
from llmops.lm.adapters import add_adapter
from llmops.lm.base import load_weights
from llmops.lm.batches import epoch_order
from llmops.lm.machine import peak_memory_bytes
from llmops.lm.pack import Pack, hidden_states, logits_of, pack_rows
from llmops.lm.render import Example
from llmops.training.guard import UNGUARDED, MemoryGuard, MemoryShort, check_step
from llmops.training.processes import ALONE, Team, shard_base


@dataclass
class Loop:
    """What training changes: the adapter's weights, the optimiser's moments, and how many steps were done.

    `memory` (tensors) and `notes` (JSON) are what evaluation during training remembers; checkpoints hold them too.
    """

    model: Any
    optimiser: torch.optim.Optimizer
    accelerator: Accelerator
    step: int = 0
    team: Team = ALONE
    memory: dict[str, torch.Tensor] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


def build(base: Path, knobs: Knobs, team: Team = ALONE) -> Loop:
    """Load the frozen base in the planned precision, put a fresh float32 adapter on it, and an AdamW on that."""
    torch.set_num_threads(knobs.threads)
    accelerator = Accelerator(cpu=knobs.device == "cpu", mixed_precision="no")
    weights = load_weights(base, knobs.precision, knobs.device, knobs.attention)
    model = add_adapter(weights, knobs)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=knobs.learning_rate, weight_decay=knobs.weight_decay, fused=True)
    if knobs.shard == "full":
        shard_base(model, knobs)
    # Without DDP around it: gradients are summed once a step, not once a pack.
    model = accelerator.prepare_model(model, evaluation_mode=True)
    return Loop(model, accelerator.prepare(optimiser), accelerator, team=team)


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
    through in packs (`lm/pack.py`), each with its share of the mean, so memory is that of one pack. Of several
    processes each takes its share of the packs, and loss and gradients are summed.
    """
    learned = sum(sum(example.trained[1:]) for example in examples)
    total = 0.0
    for pack in packs_of(loop, [example.ids for example in examples], knobs):
        loss = cross_entropy(loop.model, pack, examples, knobs.device) / learned
        loop.accelerator.backward(loss)
        total += float(loss.detach())
    return total, learned


def cross_entropy(model: Any, pack: Pack, examples: Sequence[Example], device: str) -> torch.Tensor:
    """Sum over the trained tokens of a pack, in nats. The head sees the positions before them only."""
    hidden_TD = hidden_states(model, pack, device)
    before: list[int] = []
    targets: list[int] = []
    for index, path in zip(pack.rows, pack.paths, strict=True):
        example = examples[index]
        places = [place for place in range(1, len(path)) if example.trained[place]]
        before += [path[place - 1] for place in places]
        targets += [example.ids[place] for place in places]
    logits_NV = logits_of(model, hidden_TD[torch.tensor(before, dtype=torch.long, device=device)])
    target_N = torch.tensor(targets, dtype=torch.long, device=device)
    return torch.nn.functional.cross_entropy(logits_NV, target_N, reduction="sum")


def packs_of(loop: Loop, rows: Sequence[Sequence[int]], knobs: Knobs) -> list[Pack]:
    """The packs of a batch that this process takes.

    Where the base lies in parts, every process must ask for them equally often: who has fewer packs gets an empty one.
    """
    most = min(knobs.pack_tokens, math.ceil(sum(map(len, rows)) / loop.team.size))
    packs = list(loop.team.share(pack_rows(rows, most)))
    if knobs.shard == "full":
        packs += [Pack(ids=[0], positions=[0])] * (loop.team.most(len(packs)) - len(packs))
    return packs


def guarded(loop: Loop, examples: Sequence[Example], knobs: Knobs, guard: MemoryGuard) -> tuple[float, int]:
    """`learn` on the packs of every process. Where memory runs short in one of them, all raise `MemoryShort`."""
    short: MemoryShort | None = None
    loss, learned = 0.0, 0
    try:
        with guard.watched():
            loss, learned = learn(loop, examples, knobs)
    except MemoryShort as error:
        if knobs.shard == "full":  # the others wait for parts of the base, not for a word
            raise
        short = error
    if loop.team.most(int(short is not None)):
        raise short or MemoryShort("another process ran short")
    return sum_up(loop, loss), learned


def sum_up(loop: Loop, loss: float) -> float:
    """Sum gradients and loss over the processes; what a process has no gradient for counts as zero."""
    if loop.team.size == 1:
        return loss
    weights = [weight for weight in loop.model.parameters() if weight.requires_grad]
    for weight in weights:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
    total = torch.tensor([loss], device=weights[0].device)
    loop.team.sum([total, *(weight.grad for weight in weights)])
    return float(total)


def run_steps(
    loop: Loop, examples: Sequence[Example], knobs: Knobs, guard: MemoryGuard = UNGUARDED
) -> Iterator[StepRecord]:
    """Do the steps that are left, one record each. A loss or gradient that is not finite stops it within the step.

    Raises `NotFinite` with the step and the rows of its batch, `MemoryShort` where `guard` says so, on every process;
    the weights are then those of the step before.
    """
    lengths = [len(example.ids) for example in examples]
    trained = [weight for weight in loop.model.parameters() if weight.requires_grad]
    loop.model.train()
    while loop.step < knobs.steps:
        start = time.perf_counter()
        batch = batch_at(lengths, knobs, loop.step)
        loop.optimiser.zero_grad()
        loss, learned = guarded(loop, [examples[index] for index in batch], knobs, guard)
        norm = float(loop.accelerator.clip_grad_norm_(trained, knobs.clip_norm))
        check_step(loop.step + 1, loss, norm, batch)
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
            tokens=sum(lengths[index] for index in batch),
            trained_tokens=learned,
            seconds=time.perf_counter() - start,
            memory_bytes=peak_memory_bytes(knobs.device),
        )
