"""Adapters: put a fresh one on a base, load one, merge one. On disk an adapter is exactly what PEFT writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmops.core.errors import LlmopsError
from llmops.core.plan import Knobs
from llmops.lm.base import check_folder, load_tokenizer, load_weights

WEIGHTS = "adapter_model.safetensors"


def linear_names(base: Path) -> tuple[str, ...]:
    """The last names of all linear layers inside the blocks of a base (`q_proj`, `up_proj`...), sorted; not the head.

    Reads the layout only: no weight is loaded.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    check_folder(base)
    with torch.device("meta"):
        weights = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base, local_files_only=True))
    head = weights.get_output_embeddings()
    linear = [
        name for name, layer in weights.named_modules() if isinstance(layer, torch.nn.Linear) and layer is not head
    ]
    return tuple(sorted({name.rsplit(".", 1)[-1] for name in linear}))


def add_adapter(weights: Any, knobs: Knobs) -> Any:
    """A PEFT model with a fresh LoRA whose weights are float32, drawn from the knobs' seed."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(knobs.seed)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=knobs.rank,
        lora_alpha=knobs.alpha,
        lora_dropout=knobs.dropout,
        target_modules=list(knobs.targets),
    )
    return get_peft_model(weights, config, autocast_adapter_dtype=True)


def adapter_state(model: Any) -> dict[str, Any]:
    """The adapter's tensors by name, on the CPU, contiguous."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items() if ".lora_" in name}


def load_adapter(weights: Any, folder: Path) -> Any:
    """A PEFT model with the adapter in `folder`. Missing, unexpected or non-finite tensors are errors, not warnings."""
    from peft import PeftModel
    from safetensors.torch import load_file

    check_folder(folder)
    try:
        stored = load_file(folder / WEIGHTS)
        model = PeftModel.from_pretrained(weights, str(folder), local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise LlmopsError(
            f"the adapter in {folder} does not fit its base: {error}", "use the base it was trained on"
        ) from error
    expected = {name.replace(".default.weight", ".weight") for name in model.state_dict() if ".lora_" in name}
    if expected != set(stored):
        odd = sorted(expected ^ set(stored))
        raise LlmopsError(
            f"the adapter in {folder} has {len(odd)} missing or unexpected tensors, first {odd[0]!r}",
            "use the base and the method it was trained with",
        )
    bad = [name for name, tensor in stored.items() if not bool(tensor.isfinite().all())]
    if bad:
        raise LlmopsError(f"the adapter in {folder} holds NaN or infinity in {bad[0]!r}", "train it again")
    return model.eval()


def merge(base: Path, adapter: Path, out: Path) -> None:
    """Write base plus adapter as one plain float32 model folder, tokenizer included."""
    model = load_adapter(load_weights(base), adapter).merge_and_unload(safe_merge=True)
    model.save_pretrained(out)
    load_tokenizer(base).save_pretrained(out)


def base_name(adapter: Path) -> str:
    """What the adapter itself says its base is."""
    return str(json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8")).get("base_model_name_or_path"))
