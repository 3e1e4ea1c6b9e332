"""The reference of DPO and KTO: log-probabilities of the policy as it stood before step 0, computed once and kept.

A fresh adapter has no effect, so before step 0 the policy is the base (or what training started from): no second model
is needed in memory, and none is asked again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from llmops.core.context import Track
from llmops.core.plan import Knobs, Plan
from llmops.core.value import digest
from llmops.lm.lessons import Lesson
from llmops.store.files import writing
from llmops.training.loop import Loop, batch_at
from llmops.training.losses import NEEDS_START, Batch, token_logps

AT_A_TIME = 16  # lessons: so that somebody can watch, and stop it


def of_run(
    loop: Loop, taught: Sequence[Lesson], watched: Sequence[Lesson], plan: Plan, file: Path, track: Track
) -> tuple[Batch, Batch]:
    """What is taught and what is watched, with what the plan's objective compares them with, where it does.

    That comes from `file`, or is computed now, before step 0, and kept there. Of what is taught, only the lessons that
    the plan's steps reach are read. Of several processes the first writes.
    """
    knobs = plan.knobs
    if knobs.objective.kind not in NEEDS_START:
        return Batch(taught), Batch(watched)
    every = [*taught, *watched]
    key = key_of(plan)
    start_BE = kept(key, file)
    if loop.team.most(int(start_BE is None)) or start_BE is None:
        lengths = [lesson.tokens for lesson in taught]
        reached = {place for step in range(knobs.steps) for place in batch_at(lengths, knobs, step)}
        needed = [*sorted(reached), *range(len(taught), len(every))]
        start_BE = starting_logps(loop, every, needed, knobs, track)
        if loop.team.first:
            keep(start_BE, key, file)
    start_BE = start_BE.to(knobs.device)
    return Batch(taught, start_BE[: len(taught)]), Batch(watched, start_BE[len(taught) :])


def starting_logps(
    loop: Loop, lessons: Sequence[Lesson], needed: Sequence[int], knobs: Knobs, track: Track
) -> torch.Tensor:
    """The log-probability (nats) of each example's learned tokens, BE; NaN for lessons that are not `needed`."""
    start_BE = torch.full((len(lessons), len(lessons[0].examples)), torch.nan)
    parts = [needed[place : place + AT_A_TIME] for place in range(0, len(needed), AT_A_TIME)]
    loop.model.eval()
    with torch.no_grad():
        for part in track(parts, "reading the starting point", len(parts)):
            sums_BE = torch.zeros(len(part), start_BE.shape[1], device=knobs.device)
            for found in token_logps(loop.model, [lessons[place].examples for place in part], knobs, loop.team):
                if found.places:
                    sums_BE[found.places] = found.sums()
            loop.team.sum([sums_BE])
            start_BE[list(part)] = sums_BE.cpu()
    return start_BE


def key_of(plan: Plan) -> str:
    """What they depend on: the plan, but for the size of its packs, which shrinks where memory runs short."""
    knobs = {name: value for name, value in plan.knobs.to_json().items() if name != "pack_tokens"}
    return digest([plan.dataset, plan.base.sha256, knobs, plan.left_out, plan.watched])


def keep(start_BE: torch.Tensor, key: str, file: Path) -> None:
    """Write them as safetensors, with the key they belong to and their sha256."""
    with writing(file) as draft:
        save_file({"start_BE": start_BE}, draft, {"key": key, "sha256": _sha256(start_BE)})


def kept(key: str, file: Path) -> torch.Tensor | None:
    """What `keep` wrote with this key; None where it is not there, or is damaged."""
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as stored:
            start_BE: torch.Tensor = stored.get_tensor("start_BE")
            said = stored.metadata() or {}
    except (SafetensorError, OSError, ValueError):
        return None
    return start_BE if said == {"key": key, "sha256": _sha256(start_BE)} else None


def _sha256(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
