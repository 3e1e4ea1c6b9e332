"""`take`: the two files that an adapter is, and its tokenizer, out of a folder that any tool wrote.

Nothing else is opened.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

from llmops.core.errors import RequestError
from llmops.store.files import read_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PICKLES = ("adapter_model.bin", "adapter_model.pt")
# What trainers leave beside an adapter (`training_args.bin`, `optimizer.pt`, `rng_state.pth`) is made of pickles.
PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
# What TRL and LLaMA-Factory write of the tokenizer that they trained with; older ones in more files.
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")
# Kinds of PEFT whose folder is these two files and changes weights or puts vectors before a text.
KINDS = ("LORA", "IA3", "PROMPT_TUNING")
# Where a library looks for code to run. Left out of what is taken.
DANGEROUS = ("auto_mapping", "megatron_config", "megatron_core")


class Taken(NamedTuple):
    """A clean copy of an adapter, one of the tokenizer that lay beside it (None: there was none), and what the folder
    says of itself in a sentence."""

    adapter: Path
    tokenizer: Path | None
    says: str


def take(folder: Path, out: Path) -> Taken:
    """Copy an adapter into the new folder `out`. Raises `RequestError` where it is none, or could run code."""
    if not folder.is_dir():
        raise RequestError(f"{folder} is no folder", "name the folder with adapter_config.json in it")
    found = [name for name in PICKLES if (folder / name).exists()]
    if found and not (folder / WEIGHTS).exists():
        what = f"{folder / found[0]} is a pickle, which can run code when it is opened"
        raise RequestError(what, "save the adapter again with safe_serialization=True")
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            inside = sorted(path.parent for path in folder.glob(f"*/{CONFIG}"))
            fix = f"did you mean {inside[-1]}?" if inside else "name a folder that PEFT's save_pretrained wrote"
            raise RequestError(f"{folder} has no {name}", fix)
    config = read_json(folder / CONFIG)
    kind = str(config.get("peft_type"))
    if kind not in KINDS:
        raise RequestError(f"{folder} is of kind {kind}", f"kinds that can be adopted: {', '.join(KINDS)}")
    adapter = out / "adapter"
    adapter.mkdir(parents=True)
    clean = {key: value for key, value in config.items() if key not in DANGEROUS}
    (adapter / CONFIG).write_text(json.dumps(clean, indent=2), encoding="utf-8")
    shutil.copyfile(folder / WEIGHTS, adapter / WEIGHTS)
    rank = f" of rank {config['r']}" if "r" in config else ""
    says = f"{kind}{rank}, trained on {config.get('base_model_name_or_path') or 'a base that it does not name'}"
    return Taken(adapter, _tokenizer(folder, out), says + _left_behind(folder))


def _tokenizer(folder: Path, out: Path) -> Path | None:
    if not all((folder / name).is_file() for name in TOKENIZER[:2]):
        return None
    (out / "tokenizer").mkdir()
    for name in TOKENIZER:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / "tokenizer" / name)
    return out / "tokenizer"


def _left_behind(folder: Path) -> str:
    others = [path for path in folder.iterdir() if path.name not in (CONFIG, WEIGHTS, *TOKENIZER)]
    pickles = sorted(path.name for path in others if path.suffix in PICKLED)
    if not others:
        return ""
    unopened = f", the pickles {', '.join(pickles)} among them" if pickles else ""
    return f"; {len(others)} others of its files are not opened{unopened}"
