"""Starting from an adapter that was trained before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmops.core.errors import LlmopsError
from llmops.core.plan import AdapterRecord
from llmops.lm.adapters import WEIGHTS
from llmops.lm.base import check_folder
from llmops.store.files import sha256_file

START_FOLDER = "start"  # in a run's folder


def begin_at(model: Any, folder: Path, record: AdapterRecord) -> None:
    """Give a fresh adapter on its base the tensors of the one in `folder`.

    Raises `LlmopsError` unless they are the planned ones, each of the adapter's and no other, and finite.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    check_folder(folder)
    if sha256_file(folder / WEIGHTS) != record.sha256:
        raise LlmopsError(f"{record.name} is not the adapter that was planned", "make a new plan")
    stored = load_file(folder / WEIGHTS)
    wanted = get_peft_model_state_dict(model, save_embedding_layers=False)
    odd = sorted(
        name for name in {*stored, *wanted} if name not in stored or name not in wanted or misfits(stored, wanted, name)
    )
    if odd:
        raise LlmopsError(
            f"{record.name} and the adapter to be trained differ in {len(odd)} tensors, first {odd[0]!r}",
            "start on the base and with the method that it was trained with",
        )
    bad = [name for name, tensor in stored.items() if not bool(tensor.isfinite().all())]
    if bad:
        raise LlmopsError(f"{record.name} holds NaN or infinity in {bad[0]!r}", "start from another one")
    set_peft_model_state_dict(model, stored)


def misfits(stored: dict[str, Any], wanted: dict[str, Any], name: str) -> bool:
    """Whether a tensor has another shape than it should."""
    return bool(stored[name].shape != wanted[name].shape)
