"""`write_lora_gguf`: a LoRA adapter as PEFT writes it, as the GGUF adapter that llama.cpp loads beside a base."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from llmops.core.errors import LlmopsError
from llmops.lm.adapters import CONFIG, WEIGHTS
from llmops.lm.gguf import FAMILIES, whole_file

PREFIX = "base_model.model."
FACTORS = {".lora_A.weight": ".lora_a", ".lora_B.weight": ".lora_b"}
HOW_ELSE = "Serve this version by itself: it is merged with its base then."


def is_plain_lora(adapter: Path) -> bool:
    """Whether a folder holds an adapter of two factors for each matrix, one rank and one scale, and nothing else."""
    path = adapter / CONFIG
    if not path.is_file():
        return False
    config = json.loads(path.read_text(encoding="utf-8"))
    odd = ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "trainable_token_indices", "lora_bias")
    return config.get("peft_type") == "LORA" and not any(config.get(key) for key in odd)


def write_lora_gguf(base: Path, adapter: Path, out: Path) -> None:
    """Write the adapter in the folder `adapter`, made for the model in the folder `base`, to `out`; float32.

    The file appears whole or not at all. Raises `LlmopsError` for another kind of adapter, for a family that is not in
    `FAMILIES`, and for a tensor that it has no name for.
    """
    from safetensors.numpy import load_file

    if not is_plain_lora(adapter):
        raise LlmopsError(f"{adapter} is no plain LoRA adapter.", HOW_ELSE)
    config: dict[str, Any] = json.loads((base / "config.json").read_text(encoding="utf-8"))
    made: dict[str, Any] = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    architecture = (config.get("architectures") or ["none"])[0]
    if architecture not in FAMILIES:
        raise LlmopsError(f"GGUF export knows {', '.join(FAMILIES)}, not {architecture}.", HOW_ELSE)
    family = FAMILIES[architecture]
    names = gguf.get_tensor_name_map(family.arch, int(config["num_hidden_layers"]))
    with whole_file(out, family) as writer:
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, _alpha(made))
        for name, value in sorted(load_file(adapter / WEIGHTS).items()):
            ending = next((one for one in FACTORS if name.endswith(one)), None)
            plain = f"{name.removeprefix(PREFIX).removesuffix(ending or '')}.weight"
            in_gguf = names.get_name(plain, try_suffixes=(".weight",))
            if ending is None or in_gguf is None:
                raise LlmopsError(f"GGUF export does not know the tensor {name}.", HOW_ELSE)
            ready = value.astype(np.float32)
            # The rows of the product are those of B: where the family reorders a matrix's rows, B's are reordered.
            ready = family.tensor(plain, ready, config) if FACTORS[ending] == ".lora_b" else ready
            writer.add_tensor(f"{in_gguf}{FACTORS[ending]}", np.ascontiguousarray(ready))


def _alpha(made: dict[str, Any]) -> float:
    """The alpha that gives PEFT's scale under llama.cpp's rule, alpha / rank."""
    rank, alpha = int(made["r"]), float(made["lora_alpha"])
    return alpha * math.sqrt(rank) if made.get("use_rslora") else alpha
