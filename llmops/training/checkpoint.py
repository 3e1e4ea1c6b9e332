"""Checkpoints: written whole (temporary folder, sha256 manifest, fsync, rename), verified before they are used.

A checkpoint is all that decides the steps still to come: the trained weights, both moments of AdamW, the state of the
random generators, the number of steps done (the order of rows follows from it), what evaluation during training
remembers, and the plan. Safetensors and JSON. Where the newest one is damaged, the one before it is used, and the run
says so.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save_file
from safetensors.torch import save as to_bytes

from llmops.core.errors import LlmopsError
from llmops.core.value import digest
from llmops.store.disk import DISK, Disk
from llmops.store.files import building, clear_drafts, sha256_folder, verify_folder, write_json
from llmops.training.guard import check_weights
from llmops.training.loop import Loop
from llmops.training.processes import Team

KEEP = 2
NAME = re.compile(r"^step-(\d{8})$")
MOMENTS = ("exp_avg", "exp_avg_sq", "step")
# What a checkpoint is made of, in the order in which it is written; the manifest comes last.
PARTS = ("adapter", "moments", "random", "memory")


@dataclass(frozen=True)
class Snapshot:
    """What a loop was after `step` steps: `tensors[part][name]`, and the notes of evaluation during training."""

    step: int
    tensors: Mapping[str, Mapping[str, torch.Tensor]]
    notes: Mapping[str, Any]


def trained_weights(model: Any) -> dict[str, torch.nn.Parameter]:
    """The weights that training changes, by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def snapshot(loop: Loop) -> Snapshot:
    """The loop as it stands, its tensors on the CPU (those that are there already are not copied)."""

    def here(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().cpu().contiguous()

    trained = trained_weights(loop.model)
    moments = {
        f"{name}/{moment}": here(loop.optimiser.state[weight][moment])
        for name, weight in trained.items()
        for moment in MOMENTS
        if weight in loop.optimiser.state
    }
    random = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        random["cuda"] = torch.cuda.get_rng_state()
    adapter = {name: here(weight) for name, weight in trained.items()}
    memory = {name: here(tensor) for name, tensor in loop.memory.items()}
    return Snapshot(loop.step, {"adapter": adapter, "moments": moments, "random": random, "memory": memory}, loop.notes)


def save(loop: Loop, state: Path, plan_id: str, disk: Disk = DISK) -> None:
    """Write `state/step-N` and drop all but the last two. A failed write leaves the earlier ones as they were.

    Raises `DiskError` where the disk refuses, and `LlmopsError` where a weight is not finite: neither is saved.
    """
    folder = state / f"step-{loop.step:08d}"
    if folder.exists():
        return
    taken = snapshot(loop)
    check_weights({**taken.tensors["adapter"], **taken.tensors["moments"]}, loop.step)
    with building(folder, disk) as draft:
        for part in PARTS:
            disk.write(draft / f"{part}.safetensors", partial(save_file, dict(taken.tensors[part])))
        manifest = {"step": loop.step, "plan": plan_id, "notes": dict(taken.notes), "files": sha256_folder(draft)}
        manifest["sha256"] = digest(manifest)
        disk.write(draft / "manifest.json", lambda path: write_json(path, manifest))
    for old in found(state)[:-KEEP]:
        disk.remove(old)


def found(state: Path) -> list[Path]:
    """The checkpoints of a run, oldest first. What a crash left half-written is not among them."""
    return sorted(path for path in state.glob("step-*") if NAME.match(path.name)) if state.is_dir() else []


def read(folder: Path, plan_ids: frozenset[str]) -> Snapshot:
    """One checkpoint, every byte of it verified. Raises `LlmopsError` that says what is wrong with it."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        sealed = manifest.pop("sha256")
        if sealed != digest(manifest):
            raise LlmopsError("its manifest was changed after it was written", "go back to the one before")
        verify_folder(folder, manifest["files"])
        tensors = {part: load_file(folder / f"{part}.safetensors") for part in PARTS}
    except (OSError, ValueError, KeyError, AttributeError, TypeError, SafetensorError) as error:
        raise LlmopsError(f"{type(error).__name__}: {error}", "go back to the one before") from error
    if manifest["plan"] not in plan_ids:
        raise LlmopsError(f"it belongs to plan {manifest['plan']}", "resume the run that it belongs to")
    if folder.name != f"step-{manifest['step']:08d}":
        raise LlmopsError(f"it is of step {manifest['step']}", "go back to the one before")
    return Snapshot(manifest["step"], tensors, manifest["notes"])


def apply(loop: Loop, taken: Snapshot) -> None:
    """Bring the loop to a snapshot. Raises `LlmopsError`, the loop unchanged, where it is of another model."""
    trained = trained_weights(loop.model)
    adapter, moments, random = (taken.tensors[part] for part in ("adapter", "moments", "random"))
    shapes = {name: tuple(weight.shape) for name, weight in trained.items()}
    stored = {name: tuple(tensor.shape) for name, tensor in adapter.items()}
    if shapes != stored:
        odd = sorted(set(shapes.items()) ^ set(stored.items()))[0]
        raise LlmopsError(f"its tensors are not those of this model: {odd[0]} {odd[1]}", "use the plan it was made by")
    wanted = {f"{name}/{moment}" for name in trained for moment in MOMENTS} if taken.step else set()
    if wanted - set(moments):
        raise LlmopsError(f"it lacks {sorted(wanted - set(moments))[0]}", "go back to the one before")
    with torch.no_grad():
        for name, weight in trained.items():
            weight.copy_(adapter[name])
    for name, weight in trained.items() if wanted else ():
        loop.optimiser.state[weight] = {moment: moments[f"{name}/{moment}"].to(weight.device) for moment in MOMENTS}
    torch.set_rng_state(random["cpu"])
    if "cuda" in random and torch.cuda.is_available():
        torch.cuda.set_rng_state(random["cuda"])
    loop.memory = dict(taken.tensors["memory"])
    loop.notes = dict(taken.notes)
    loop.step = taken.step


def restore(loop: Loop, state: Path, plan_ids: frozenset[str], say: Callable[[str], None]) -> None:
    """Bring the loop to its newest good checkpoint; from the start where there is none. Says what it passed over.

    What is damaged is set aside as `damaged-step-N`, so that step N can be saved again. For who alone trains the run.
    """
    clear_drafts(state)
    for folder in reversed(found(state)):
        try:
            apply(loop, read(folder, plan_ids))
        except LlmopsError as error:
            say(f"checkpoint {folder.name} is damaged ({error.what}), going back to the one before")
            aside = folder.with_name(f"damaged-{folder.name}")
            with suppress(FileNotFoundError):
                shutil.rmtree(aside)
            folder.rename(aside)
            continue
        return


def agree(loop: Loop, team: Team) -> None:
    """Give every process of a team the snapshot that the first one restored."""
    if team.size == 1:
        return
    taken = snapshot(loop)
    notes = json.loads(team.from_first(json.dumps({"step": taken.step, "notes": dict(taken.notes)}).encode()))
    tensors = {
        part: load(team.from_first(to_bytes(dict(taken.tensors[part])) if team.first else b"")) for part in PARTS
    }
    apply(loop, Snapshot(notes["step"], tensors, notes["notes"]))
