"""Watching: the loss of rows that are not learned, every few steps; the best weights kept; when to stop.

What it remembers is in the loop: its notes (`best_step`, `best_loss_nats`, `looks_since`) and its memory (the trained
weights of that step). Checkpoints hold both, so a resumed run decides what the uninterrupted one decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch

from llmops.core.errors import LlmopsError
from llmops.core.plan import Knobs
from llmops.core.run import StepRecord
from llmops.training.loop import Loop
from llmops.training.losses import Batch, shares


def watched(records: Iterable[StepRecord], loop: Loop, rows: Batch, knobs: Knobs) -> Iterator[StepRecord]:
    """The records, with the held-out loss where it is time to look. A look leaves no trace in what is learned."""
    for record in records:
        due = knobs.look_every and (record.step % knobs.look_every == 0 or record.step == knobs.steps)
        if not (due and rows.lessons):
            yield record
            continue
        loss = heldout_loss(loop, rows, knobs)
        if knobs.patience:
            _remember(loop, loss)
        yield record.replace(heldout_loss_nats=loss)


def heldout_loss(loop: Loop, rows: Batch, knobs: Knobs) -> float:
    """The plan's own loss, of `rows`. Of several processes each reads its share."""
    total = torch.zeros((), device=knobs.device)
    loop.model.eval()
    with torch.no_grad():
        for share in shares(loop.model, rows, knobs, loop.team):
            total += share.loss
    loop.model.train()
    loop.team.sum([total])
    return float(total)


def _remember(loop: Loop, loss: float) -> None:
    if not math.isfinite(loss):
        raise LlmopsError(f"step {loop.step}: the loss of the watched rows is {loss}", "lower training.learning_rate")
    if loss < loop.notes.get("best_loss_nats", math.inf):
        loop.notes = {"best_step": loop.step, "best_loss_nats": loss, "looks_since": 0}
        loop.memory = {
            name: weight.detach().to("cpu", copy=True)
            for name, weight in loop.model.named_parameters()
            if weight.requires_grad
        }
    else:
        loop.notes = {**loop.notes, "looks_since": loop.notes["looks_since"] + 1}


def enough(loop: Loop, knobs: Knobs) -> bool:
    """Whether as many looks as there is patience for brought nothing better."""
    return bool(knobs.patience) and loop.notes.get("looks_since", 0) >= knobs.patience


def keep_best(loop: Loop, knobs: Knobs) -> str:
    """Put the best weights back where they were to be kept. Returns a sentence that says which they are, or nothing."""
    if not knobs.patience or "best_step" not in loop.notes:
        return ""
    with torch.no_grad():
        for name, weight in loop.model.named_parameters():
            if weight.requires_grad:
                weight.copy_(loop.memory[name])
    stopped = f"stopped early at step {loop.step} of {knobs.steps}; " if loop.step < knobs.steps else ""
    best = f"held-out loss {loop.notes['best_loss_nats']:.4f}"
    return f"{stopped}kept the weights of step {loop.notes['best_step']}, {best}"
