"""`take`: the two files that an adapter is, out of a folder that any tool wrote. Nothing else is opened."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

from llmops.core.errors import RequestError
from llmops.store.files import read_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PICKLES = ("adapter_model.bin", "adapter_model.pt")
# Kinds of PEFT whose folder is these two files and changes weights or puts vectors before a text.
KINDS = ("LORA", "IA3", "PROMPT_TUNING")
# Where a library looks for code to run. Left out of what is taken.
DANGEROUS = ("auto_mapping", "megatron_config", "megatron_core")


class Taken(NamedTuple):
    """A clean copy of an adapter, and what it says of itself in a sentence."""

    folder: Path
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
    out.mkdir()
    clean = {key: value for key, value in config.items() if key not in DANGEROUS}
    (out / CONFIG).write_text(json.dumps(clean, indent=2), encoding="utf-8")
    shutil.copyfile(folder / WEIGHTS, out / WEIGHTS)
    left = sum(path.name not in (CONFIG, WEIGHTS) for path in folder.iterdir())
    rank = f" of rank {config['r']}" if "r" in config else ""
    says = f"{kind}{rank}, trained on {config.get('base_model_name_or_path') or 'a base that it does not name'}"
    return Taken(out, f"{says}; {left} other files are left behind" if left else says)
