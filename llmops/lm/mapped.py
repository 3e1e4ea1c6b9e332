"""Weights that stay in their file: in memory once, as read-only pages, which may be let go of and come back when read.

An exam goes through thousands of tokens at a time, so that a model's layers may come and go with each pack: a page that
is in the system's cache costs 0.4 microseconds to come back and go (56 ms of one core for 538 MB; recipes/LOG.md).
Who writes to such a weight stops the process (the pages are read-only): a weight is exchanged (`weight.data = ...`).
"""

from __future__ import annotations

import json
import mmap
import warnings
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

HEADER_BYTES = (
    8  # of a safetensors file: the size of the JSON that follows (https://github.com/huggingface/safetensors)
)
DTYPES = {"F32": "float32", "BF16": "bfloat16"}
PLACE = "_llmops_lying"


@dataclass(frozen=True)
class Lying:
    """Where a weight lies: in these pages, from one byte on; and the address that this is for torch."""

    pages: mmap.mmap
    start: int
    size: int
    address: int = 0

    def let_go(self) -> None:
        """Give the pages back. Reading the weight brings them again, from the system's cache or from disk."""
        first = self.start // mmap.PAGESIZE * mmap.PAGESIZE
        self.pages.madvise(mmap.MADV_DONTNEED, first, self.start + self.size - first)


def lying_of(weight: Any) -> Lying | None:
    """Where a parameter lies, if it is in a file and was not exchanged since."""
    found: Lying | None = getattr(weight, PLACE, None)
    return found if found and found.address == weight.data_ptr() else None


def map_weights(model: Any, folder: Path) -> Any:
    """Let the frozen parameters of `model`, just loaded from `folder` onto the CPU, lie in its safetensors.

    A parameter that the files hold in another precision, or under another name, stays as it is. Returns the model.
    """
    import torch

    parameters = dict(model.named_parameters())
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        begin = HEADER_BYTES + int.from_bytes(pages[:HEADER_BYTES], "little")
        for name, entry in json.loads(pages[HEADER_BYTES:begin]).items():
            weight, dtype = parameters.get(name), getattr(torch, DTYPES.get(entry.get("dtype"), ""), None)
            if weight is None or weight.requires_grad or weight.dtype != dtype or list(weight.shape) != entry["shape"]:
                continue
            start, end = (begin + offset for offset in entry["data_offsets"])
            with warnings.catch_warnings():  # torch says that the pages cannot be written to, which is the point
                warnings.simplefilter("ignore", UserWarning)
                lies = torch.frombuffer(pages, dtype=dtype, count=prod(entry["shape"]), offset=start)
            weight.data = lies.view(entry["shape"])
            setattr(weight, PLACE, Lying(pages, start, end - start, lies.data_ptr()))
    return model


def in_precision(model: Any, precision: str) -> Any:
    """`model` with each weight that has another precision copied by itself, and its pages let go of. Returns it."""
    import torch

    dtype = getattr(torch, precision)
    for weight in model.parameters():
        if weight.dtype != dtype:
            lying = lying_of(weight)
            weight.data = weight.data.to(dtype)
            if lying is not None:
                lying.let_go()
    model.config.dtype = dtype
    return model
