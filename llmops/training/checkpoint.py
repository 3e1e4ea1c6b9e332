"""Checkpoints: written whole (temporary folder, sha256 manifest, fsync, rename), verified before they are used.

A checkpoint holds the adapter, both moments of AdamW and the state of the random generator, as safetensors and
JSON. Where the newest one is damaged, the one before it is used, and the run says so.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from llmops.core.errors import LlmopsError
from llmops.lm.adapters import adapter_state
from llmops.store.files import building, sha256_folder, verify_folder, write_json
from llmops.training.loop import Loop

KEEP = 2
NAME = re.compile(r"^step-(\d{8})$")
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def trained_weights(model: Any) -> dict[str, torch.nn.Parameter]:
    """The weights that training changes, by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def save(loop: Loop, state: Path) -> None:
    """Write `state/step-N` and drop all but the last two. A failed write leaves the earlier ones as they were."""
    folder = state / f"step-{loop.step:08d}"
    if folder.exists():
        return
    moments = {
        f"{name}/{moment}": loop.optimiser.state[weight][moment].detach().cpu().contiguous()
        for name, weight in trained_weights(loop.model).items()
        for moment in MOMENTS
        if weight in loop.optimiser.state
    }
    random = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        random["cuda"] = torch.cuda.get_rng_state()
    with building(folder) as draft:
        save_file(adapter_state(loop.model), draft / "adapter.safetensors")
        save_file(moments, draft / "moments.safetensors")
        save_file(random, draft / "random.safetensors")
        write_json(draft / "manifest.json", {"step": loop.step, "files": sha256_folder(draft)})
    for old in found(state)[:-KEEP]:
        shutil.rmtree(old)


def found(state: Path) -> list[Path]:
    """The checkpoints of a run, oldest first. What a crash left half-written is not among them."""
    return sorted(path for path in state.glob("step-*") if NAME.match(path.name)) if state.is_dir() else []


def restore(loop: Loop, state: Path, say: Callable[[str], None]) -> None:
    """Bring the loop to its newest good checkpoint; from the start where there is none."""
    for folder in reversed(found(state)):
        try:
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            verify_folder(folder, manifest["files"])
            _load(loop, folder)
        except (LlmopsError, OSError, ValueError, KeyError) as error:
            say(f"checkpoint {folder.name} is damaged ({error}), going back to the one before")
            continue
        loop.step = int(manifest["step"])
        return


def _load(loop: Loop, folder: Path) -> None:
    weights = load_file(folder / "adapter.safetensors")
    moments = load_file(folder / "moments.safetensors")
    trained = trained_weights(loop.model)
    if set(weights) != set(adapter_state(loop.model)):
        raise ValueError("its tensors are not those of this adapter")
    loop.model.load_state_dict(weights, strict=False)
    for name, weight in trained.items():
        stored = {moment: moments[f"{name}/{moment}"].to(weight.device) for moment in MOMENTS}
        loop.optimiser.state[weight] = stored
    random = load_file(folder / "random.safetensors")
    torch.set_rng_state(random["cpu"])
    if "cuda" in random and torch.cuda.is_available():
        torch.cuda.set_rng_state(random["cuda"])
