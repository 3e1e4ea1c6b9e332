"""The reference of DPO and KTO: log-probabilities of the policy as it stood before step 0, computed once and kept.

A fresh adapter has no effect, so before step 0 the policy is the base (or what training started from): no second model
is needed in memory, and none is asked again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from llmops.core.context import Track
from llmops.core.plan import Plan
from llmops.lm.lessons import Lesson
from llmops.store.files import writing
from llmops.training.loop import Loop, batch_at
from llmops.training.losses import NEEDS_START, token_logps

AT_A_TIME = 64  # lessons: so that somebody can watch


def of_run(loop: Loop, lessons: Sequence[Lesson], plan: Plan, file: Path, track: Track) -> torch.Tensor | None:
    """What the plan's objective compares with: from `file`, or computed now, before step 0, and kept there.

    None where it compares with nothing. Only lessons that the plan's steps reach are read.
    """
    knobs = plan.knobs
    if knobs.objective.kind not in NEEDS_START:
        return None
    start_BE = kept(plan.id, file)
    if start_BE is None:
        lengths = [lesson.tokens for lesson in lessons]
        needed = sorted({place for step in range(knobs.steps) for place in batch_at(lengths, knobs, step)})
        start_BE = starting_logps(loop.model, lessons, needed, knobs.device, track)
        keep(start_BE, plan.id, file)
    return start_BE.to(knobs.device)


def starting_logps(
    model: Any, lessons: Sequence[Lesson], needed: Sequence[int], device: str, track: Track
) -> torch.Tensor:
    """The log-probability (nats) of each example's learned tokens, BE; NaN for lessons that are not `needed`."""
    start_BE = torch.full((len(lessons), len(lessons[0].examples)), torch.nan)
    parts = [needed[place : place + AT_A_TIME] for place in range(0, len(needed), AT_A_TIME)]
    model.eval()
    with torch.inference_mode():
        for part in track(parts, "reading the starting point", len(parts)):
            for found in token_logps(model, [lessons[place].examples for place in part], device):
                start_BE[[part[place] for place in found.places]] = found.sums().cpu()
    return start_BE


def keep(start_BE: torch.Tensor, plan: str, file: Path) -> None:
    """Write them as safetensors, with the plan they belong to and their sha256."""
    with writing(file) as draft:
        save_file({"start_BE": start_BE}, draft, {"plan": plan, "sha256": _sha256(start_BE)})


def kept(plan: str, file: Path) -> torch.Tensor | None:
    """What `keep` wrote for this plan; None where it is not there, or is damaged."""
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as stored:
            start_BE: torch.Tensor = stored.get_tensor("start_BE")
            said = stored.metadata() or {}
    except (SafetensorError, OSError, ValueError):
        return None
    return start_BE if said == {"plan": plan, "sha256": _sha256(start_BE)} else None


def _sha256(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
