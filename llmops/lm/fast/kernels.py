"""`Compiled`: the passes of `plain.py`, each as one loop in C, built by this machine's compiler when it is needed.

Of a layer's time outside matrix products the plain passes take three times as long (recipes/LOG.md). The library is
built in a temporary folder and loaded from there; nothing is kept on disk, so nothing on disk can be exchanged.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmops.core.errors import LlmopsError
from llmops.lm.fast.adapt import LANE, Adapters, Narrow, Products, Sizes
from llmops.lm.fast.plain import Plain, Turn
from llmops.lm.fast.products import LEAST_ROWS, Together, WordProducts

NAMES = ("kernels.c", "attend.c", "once.c", "adapt.c", "products.c", "frozen.c", "words.c")
SOURCES = tuple(Path(__file__).with_name(name) for name in NAMES)
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-fno-math-errno", "-fno-trapping-math")
WIDE = "-mprefer-vector-width=512"
DEFINES = {torch.bfloat16: ("-DBFLOAT16",), torch.float32: ()}


def compiler() -> str | None:
    """The C compiler of this machine, if it has one."""
    return next((found for name in COMPILERS if (found := shutil.which(name))), None)


def working_compiler() -> str:
    """The name of the compiler of this machine that can build the kernels; nothing where there is none."""
    try:
        build(torch.float32)
    except LlmopsError:
        return ""
    return Path(str(compiler())).name


@lru_cache(maxsize=1)
def multiplies_pairs() -> bool:
    """Whether `attend.c` does attention on this processor, as its compiler tells: with AVX-512 BF16, without AMX."""
    program = working_compiler() and compiler()
    if not program:
        return False
    command = [program, *FLAGS, "-dM", "-E", "-x", "c", os.devnull]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    known = set(done.stdout.split())
    return "__AVX512BF16__" in known and "__AMX_BF16__" not in known


@lru_cache(maxsize=len(DEFINES))
def build(dtype: torch.dtype) -> ctypes.CDLL:
    """The library for one type of numbers, in a second. Raises `LlmopsError` with the compiler's own words."""
    program = compiler()
    if program is None:
        raise LlmopsError("there is no C compiler here", "install one, or plan on this machine anew")
    with tempfile.TemporaryDirectory(prefix="llmops-kernels-") as folder:
        out = Path(folder) / "kernels.so"
        command = [program, *FLAGS, WIDE, *DEFINES[dtype], *map(str, SOURCES), "-o", str(out), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            raise LlmopsError(
                f"the C compiler {program} failed: {done.stderr.strip()[:300]}", "mend it, or plan on this machine anew"
            )
        return ctypes.CDLL(str(out))


def _at(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr() if tensor is not None else None)


def _long(*values: int) -> list[Any]:
    return [ctypes.c_long(value) for value in values]


class Compiled(Plain):
    """In C, one pass over memory each, on the threads that torch uses."""

    name = "compiled"

    def __init__(self, dtype: torch.dtype) -> None:
        self.library = build(dtype)
        self.library.attend_bytes.restype = ctypes.c_long
        self.library.once_bytes.restype = ctypes.c_long
        self.once = self.library
        self.direct = self.library if self.library.attend_bytes(*_long(1, 1)) else None
        self.in_pairs = bool(self.library.multiplies_frozen())
        self.faster = bool(self.library.products_here())
        self.words = WordProducts(self.library) if self.faster or self.in_pairs else None
        if self.words:
            self.library.words_held.restype = ctypes.c_long

    def product(self, x_TI: Tensor, weight_OI: Tensor, out_TO: Tensor, onto_TO: Tensor | None = None) -> None:
        if not self.faster or len(x_TI) < LEAST_ROWS:
            super().product(x_TI, weight_OI, out_TO, onto_TO)
            return
        onto = (_at(onto_TO), *_long(0 if onto_TO is None else onto_TO.stride(0)))
        self.library.product(
            _at(x_TI), *_long(x_TI.stride(0)), _at(weight_OI), *onto, _at(out_TO),
            *_long(out_TO.stride(0), *x_TI.shape, len(weight_OI)),
        )  # fmt: skip

    def adapters(self, sizes: Sizes, dtype: torch.dtype) -> Adapters:
        return Narrow(sizes, self.library) if self.library.adapts() and _whole(sizes) else Products(sizes, dtype)

    def together(self, sizes: Sizes, addresses: Sequence[int], adapters: Adapters | None) -> Together | None:
        if not self.in_pairs or not _whole(sizes):
            return None
        assert adapters is None or isinstance(adapters, Narrow)
        weights = list(zip(addresses, sizes.outputs, strict=True))
        return Together(self.library, weights, sizes.inputs, adapters)

    def norm(self, x: Tensor, w: Tensor, eps: float, out: Tensor) -> None:
        groups = x.shape[1] if x.dim() == 3 else 1
        self.library.norm(
            _at(x), *_long(x.stride(0)), _at(w), ctypes.c_float(eps), _at(out),
            *_long(out.stride(0), x.shape[0], groups, x.shape[-1]),
        )  # fmt: skip

    def norm_backward(self, x: Tensor, w: Tensor, eps: float, dy: Tensor, into: Tensor, add: bool) -> None:
        groups = x.shape[1] if x.dim() == 3 else 1
        self.library.norm_backward(
            _at(x), *_long(x.stride(0)), _at(w), ctypes.c_float(eps), _at(dy), *_long(dy.stride(0)), _at(into),
            *_long(into.stride(0)), ctypes.c_int(add), *_long(x.shape[0], groups, x.shape[-1]),
        )  # fmt: skip

    def gate(self, gu: Tensor, out: Tensor, gelu: bool) -> None:
        self.library.gate(
            _at(gu), _at(out), *_long(out.stride(0)), ctypes.c_int(gelu), *_long(gu.shape[0], gu.shape[1] // 2)
        )

    def gate_backward(self, gu: Tensor, dh: Tensor, out: Tensor, gelu: bool) -> None:
        self.library.gate_backward(
            _at(gu), _at(dh), *_long(dh.stride(0)), _at(out), *_long(out.stride(0)), ctypes.c_int(gelu),
            *_long(gu.shape[0], gu.shape[1] // 2),
        )  # fmt: skip

    def spread(self, x_THS: Tensor, places: Tensor, counts: Tensor, turn: Turn | None, scale: float = 1.0) -> Tensor:
        blocks, width = places.shape
        _, heads, size = x_THS.shape
        out = torch.empty(blocks, heads, width, size, dtype=x_THS.dtype)
        self.library.spread(
            _at(x_THS), *_long(x_THS.stride(0)), _at(places), _at(counts), *_turn(turn), ctypes.c_float(scale),
            _at(out), *_long(blocks, heads, width, size),
        )  # fmt: skip
        return out

    def collect(
        self, x: Tensor, places: Tensor, counts: Tensor, turn: Turn | None, scale: float, out_THS: Tensor
    ) -> None:
        self.library.collect(
            _at(x), _at(places), _at(counts), *_turn(turn), ctypes.c_float(scale), _at(out_THS),
            *_long(out_THS.stride(0), *x.shape),
        )  # fmt: skip

    def accumulate(self, x: Tensor, places: Tensor, counts: Tensor, total_THS: Tensor) -> None:
        self.library.accumulate(_at(x), _at(places), _at(counts), _at(total_THS), *_long(*x.shape))

    def settle(self, total_THS: Tensor, turn: Turn | None, out_THS: Tensor) -> None:
        self.library.settle(_at(total_THS), *_turn(turn), _at(out_THS), *_long(out_THS.stride(0), *total_THS.shape))

    def softmax(self, scores: Tensor, counts: Tensor, window: int) -> None:
        self.library.softmax(_at(scores), _at(counts), *_long(window, *scores.shape))

    def softmax_backward(self, shares: Tensor, d: Tensor, counts: Tensor, window: int) -> None:
        self.library.softmax_backward(_at(shares), _at(d), _at(counts), *_long(window, *shares.shape))

    def log_total(self, logits_NV: Tensor, cap: float) -> Tensor:
        found = torch.empty(len(logits_NV), dtype=torch.float32)
        self.library.log_total(_at(logits_NV), ctypes.c_float(cap), _at(found), *_long(*logits_NV.shape))
        return found

    def log_share(self, logits_NV: Tensor, targets: Tensor, cap: float) -> Tensor:
        found = torch.empty(len(targets), dtype=torch.float32)
        self.library.log_share(_at(logits_NV), _at(targets), ctypes.c_float(cap), _at(found), *_long(*logits_NV.shape))
        return found


def _whole(sizes: Sizes) -> bool:
    """Whether vectors divide all of them."""
    return all(size % LANE == 0 for size in (sizes.inputs, *sizes.outputs))


def _turn(turn: Turn | None) -> tuple[ctypes.c_void_p, ctypes.c_void_p]:
    return (_at(turn.cos), _at(turn.sin)) if turn else (_at(None), _at(None))


def passes_of(kind: str, dtype: torch.dtype) -> Plain:
    """The passes by their name in a plan: `compiled` or `plain`."""
    return Compiled(dtype) if kind == "compiled" and dtype in DEFINES else Plain()
