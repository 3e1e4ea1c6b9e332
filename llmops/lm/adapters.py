"""Adapters: put a fresh one on a base, save it, load it, merge it. On disk an adapter is exactly what PEFT writes.

Full tuning has no adapter: what it leaves is a plain model folder, and `load_tuned` and `merge` take both.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llmops.core.errors import LlmopsError
from llmops.core.method import FullTuning, LoRA, LowRank, PromptTuning
from llmops.core.plan import Knobs
from llmops.lm.base import check_folder, load_tokenizer, load_weights
from llmops.lm.fast import FAMILIES
from llmops.lm.mapped import in_precision, map_weights

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
# 16 subspace iterations instead of a full singular value decomposition of every layer, which takes far longer.
PISSA = "pissa_niter_16"
# These start from a part of the base, which they take out of it: the saved adapter is the change to the plain base.
FROM_THE_BASE = ("pissa", "olora")
FEED_FORWARD = "down_proj"


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
    """The model to train: float32 trained weights on the frozen base, what is random in them drawn from the seed.

    A PEFT model; for full tuning, `weights` themselves, thawed.
    """
    import torch
    from peft import get_peft_model

    torch.manual_seed(knobs.seed)
    if isinstance(knobs.method, FullTuning):
        return weights.requires_grad_(True)
    return get_peft_model(weights, CONFIGS[knobs.method.kind](knobs), autocast_adapter_dtype=True)


def _low_rank(knobs: Knobs) -> Any:
    from peft import LoraConfig

    assert isinstance(knobs.method, LowRank)
    method = knobs.method
    plain = method if isinstance(method, LoRA) else LoRA(rank_stabilised=False, initialisation="default")
    start: dict[str | None, str | bool] = {"default": True, "pissa": PISSA}
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=method.rank,
        lora_alpha=method.alpha,
        lora_dropout=method.dropout,
        target_modules=list(knobs.targets),
        use_rslora=plain.rank_stabilised,
        init_lora_weights=start.get(plain.initialisation, plain.initialisation),
        use_dora=method.kind == "dora",
    )


def _ia3(knobs: Knobs) -> Any:
    from peft import IA3Config

    inner = [name for name in knobs.targets if name == FEED_FORWARD]
    return IA3Config(task_type="CAUSAL_LM", target_modules=list(knobs.targets), feedforward_modules=inner)


def _prompt_tuning(knobs: Knobs) -> Any:
    from peft import PromptTuningConfig

    assert isinstance(knobs.method, PromptTuning)
    # Random vectors are far longer than embeddings; those of random words are not (Lester et al. 2021, section 3.2).
    return PromptTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=knobs.method.virtual_tokens, prompt_tuning_init="SAMPLE_VOCAB"
    )


CONFIGS: dict[str, Callable[[Knobs], Any]] = {
    "lora": _low_rank,
    "dora": _low_rank,
    "qlora": _low_rank,
    "ia3": _ia3,
    "prompt_tuning": _prompt_tuning,
}


def adapter_state(model: Any) -> dict[str, Any]:
    """The tensors that training changes, by name, on the CPU, contiguous."""
    return {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.named_parameters() if tensor.requires_grad
    }


def starting_point(model: Any, knobs: Knobs) -> dict[str, Any] | None:
    """A fresh adapter's tensors where it took a part out of the base, for `save_tuned`; else None."""
    if not isinstance(knobs.method, LoRA) or knobs.method.initialisation not in FROM_THE_BASE:
        return None
    return {name: tensor.detach().clone() for name, tensor in _tensors(model).items()}


def save_tuned(model: Any, base: Path, base_name: str, start: Mapping[str, Any] | None, out: Path) -> None:
    """Write a trained model into the folder `out`: an adapter as PEFT does, its base called `base_name`.

    With a `starting_point`, what is written is the difference to it, so that the adapter belongs on the plain base
    like any other. Full tuning writes a plain model folder, the tokenizer of `base` included.
    """
    if not hasattr(model, "peft_config"):
        model.save_pretrained(out)
        load_tokenizer(base).save_pretrained(out)
        return
    model.peft_config["default"].base_model_name_or_path = base_name
    if start is not None:
        _save_difference(model, start, out)
        return
    model.save_pretrained(out, save_embedding_layers=False)
    (out / "README.md").unlink(missing_ok=True)


def _save_difference(model: Any, start: Mapping[str, Any], out: Path) -> None:
    """B A - B0 A0 = [B, -B0] [A; A0]: an adapter of twice the rank (appendix C of the PiSSA paper).

    PEFT can write the same, but asks the hub about the base for it.
    """
    import torch
    from safetensors.torch import save_file

    joined = {
        name: torch.cat([tensor, start[name]], 0) if ".lora_A" in name else torch.cat([tensor, -start[name]], 1)
        for name, tensor in _tensors(model).items()
    }
    config = copy.deepcopy(model.peft_config["default"])
    config.lora_alpha *= 2**0.5 if config.use_rslora else 2  # the scale stays: it is over the rank, or its root
    config.r *= 2
    config.init_lora_weights, config.inference_mode = True, True
    config.save_pretrained(out)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in joined.items()}, out / WEIGHTS)


def _tensors(model: Any) -> dict[str, Any]:
    """An adapter's tensors, named as PEFT stores them."""
    from peft import get_peft_model_state_dict

    return dict(get_peft_model_state_dict(model, save_embedding_layers=False))


def load_tuned(base: Path, folder: Path, precision: str = "float32", device: str = "cpu") -> Any:
    """The model in `folder`, ready to answer: an adapter on its base, or a whole model."""
    if (folder / CONFIG).is_file():
        return load_adapter(load_weights(base, precision, device), folder)
    return load_weights(folder, precision, device)


def load_in_place(base: Path, tuned: Path | None, precision: str, device: str) -> Any:
    """A base, or what was tuned from it, to read only: on a CPU its weights stay in their file (`mapped.py`)."""
    if device != "cpu" or (tuned and not _starts_beside(tuned)):
        return load_tuned(base, tuned, precision, device) if tuned else load_weights(base, precision, device)
    adapter = tuned if tuned and (tuned / CONFIG).is_file() else None
    folder = base if adapter or not tuned else tuned
    family = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if family in FAMILIES:  # of others, transformers may know weights that keep their precision
        weights = in_precision(map_weights(load_weights(folder, "auto"), folder), precision)
    else:
        weights = map_weights(load_weights(folder, precision), folder)
    return load_adapter(weights, adapter) if adapter else weights


def _starts_beside(tuned: Path) -> bool:
    """Whether PEFT leaves the base as it is when it loads: some starts of an adapter are first taken out of it."""
    if not (tuned / CONFIG).is_file():
        return True
    return json.loads((tuned / CONFIG).read_text(encoding="utf-8")).get("init_lora_weights", True) in (
        True,
        False,
        None,
    )


def load_adapter(weights: Any, folder: Path) -> Any:
    """A PEFT model with the adapter in `folder`. Missing, unexpected or non-finite tensors are errors, not warnings."""
    from peft import PeftModel
    from safetensors.torch import load_file

    check_folder(folder)
    try:
        stored = load_file(folder / WEIGHTS)
        model = PeftModel.from_pretrained(weights, str(folder), local_files_only=True)
        _check_width(model)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise LlmopsError(
            f"the adapter in {folder} does not fit its base: {error}", "use the base it was trained on"
        ) from error
    expected = set(_tensors(model))
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


def _check_width(model: Any) -> None:
    """Raise `ValueError` where a tuned prompt is of another width than the base: PEFT does not look."""
    config, width = model.peft_config["default"], model.get_base_model().get_input_embeddings().weight.shape[1]
    if config.is_prompt_learning and config.token_dim != width:
        raise ValueError(f"its vectors are {config.token_dim} wide, those of the base {width}")


def merge(base: Path, tuned: Path, out: Path) -> None:
    """Write what was tuned as one plain float32 model folder, tokenizer included.

    Raises `LlmopsError` for prompt tuning: its vectors stand before the text and are no part of any weight.
    """
    model = load_tuned(base, tuned)
    if hasattr(model, "peft_config"):
        if model.peft_config["default"].is_prompt_learning:
            raise LlmopsError(
                f"{tuned} is a tuned prompt, which cannot be merged into a base's weights",
                "evaluate and predict with it as it is, or train with method.kind lora to serve it",
            )
        model = model.merge_and_unload(safe_merge=True)
    model.save_pretrained(out)
    load_tokenizer(base).save_pretrained(out)


def base_name(adapter: Path) -> str:
    """What the adapter itself says its base is."""
    return str(json.loads((adapter / CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path"))
