"""Base models as folders: convert a GGUF once, refuse what could run code, load a tokenizer and weights."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.core.errors import LlmopsError, RequestError

if TYPE_CHECKING:
    import torch

# Keys of a config.json by which a model folder has made libraries import code, whatever they were told.
CODE_KEYS = re.compile(r"^(auto_map|custom_.*|.*_implementation.*)$")
CODE_FILES = (".py", ".pkl", ".pickle", ".bin", ".pt", ".pth", ".ckpt", ".so", ".dll", ".ipynb")


def check_folder(folder: Path) -> None:
    """Refuse a model or adapter folder that holds code, a pickle, or a key that names code. Reads JSON only."""
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix.lower() in CODE_FILES:
            raise RequestError(f"{path} could run code when it is loaded", "use a folder of safetensors and JSON only")
    for path in folder.glob("*.json"):
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise LlmopsError(f"{path} is damaged: {error}", "fetch the model again") from error
        for key in data if isinstance(data, dict) else ():
            if CODE_KEYS.match(key):
                raise RequestError(f"{path} names code to run ({key!r})", "use a model without code of its own")


CONVERT_STEPS = 3


def convert_gguf(gguf: Path, folder: Path) -> Iterator[str]:
    """Write a GGUF as a plain Hugging Face folder: float32 safetensors (dequantised exactly), config, tokenizer.

    Yields the name of each of `CONVERT_STEPS` steps as it is done, so that somebody can watch.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    quiet_libraries()
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    yield "tokenizer"
    with redirect_stderr(StringIO()):  # a progress bar of its own
        model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype="float32")
    model.hf_quantizer = None
    model.config.architectures = [type(model).__name__]
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    yield "weights"
    model.save_pretrained(folder)
    yield "written"


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a checked folder."""
    from transformers import AutoTokenizer

    quiet_libraries()
    check_folder(folder)
    if not (folder / "tokenizer_config.json").is_file():
        raise RequestError(f"{folder} holds no tokenizer", "name a model folder with its tokenizer in it")
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def template_of(tokenizer: Any) -> str:
    """`base` where the tokenizer brings a chat template, else `plain`: ours (`lm/render.py`)."""
    return "base" if tokenizer.chat_template else "plain"


def load_weights(folder: Path, precision: str = "float32", device: str = "cpu", attention: str = "sdpa") -> Any:
    """The causal language model of a checked folder, in evaluation mode, its weights frozen."""
    from transformers import AutoModelForCausalLM

    quiet_libraries()
    check_folder(folder)
    model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(
        folder, dtype=precision, attn_implementation=attention, local_files_only=True, use_safetensors=True
    )
    # `generate` hands the head a slice. Of one PyTorch makes a batched product on a processor, and copies the head's
    # weights for every row first: three rows of Gemma 3 270M in bfloat16 took 4.7 s and 1 GB; the product takes 40 ms.
    model.get_output_embeddings().register_forward_pre_hook(lambda _, given: (given[0].contiguous(), *given[1:]))
    return model.to(device).eval().requires_grad_(False)


def load_four_bit(folder: Path, precision: str, device: str, attention: str) -> Any:
    """The same with its linear layers held in 4 bits (NF4), products in `precision`. On a GPU, with bitsandbytes."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    quiet_libraries()
    check_folder(folder)
    four_bit = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=getattr(torch, precision)
    )
    model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=precision,
        attn_implementation=attention,
        local_files_only=True,
        use_safetensors=True,
        quantization_config=four_bit,
        device_map={"": device},
    )
    return model.eval().requires_grad_(False)


def count_parameters(folder: Path) -> tuple[str, int]:
    """(family, number of parameters) of a folder, read from its config and the headers of its safetensors."""
    from safetensors import safe_open

    family = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type", "unknown")
    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="numpy") as tensors:
            for key in tensors.keys():  # noqa: SIM118 - safe_open is no dict
                shape = tensors.get_slice(key).get_shape()
                size = 1
                for axis in shape:
                    size *= axis
                total += size
    return family, total


def quiet_libraries() -> None:
    """Turn off progress bars and advice that the libraries print over ours."""
    import logging

    from transformers.utils import logging as transformers_logging

    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers|peft")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
