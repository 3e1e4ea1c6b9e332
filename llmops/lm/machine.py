"""Look at this machine once: processor, memory, and how fast it multiplies matrices in each precision."""

from __future__ import annotations

import os
import platform
import re
import time
from pathlib import Path

from llmops.core.errors import RequestError
from llmops.core.plan import Machine
from llmops.lm.memory import free_bytes

# Of the square matrices that are multiplied: 7 GFLOP a product on a CPU, 1.1 TFLOP on a GPU, which starts a product in
# the time in which it would do the smaller one.
SIDE = {"cpu": 1536, "cuda": 8192}
PRODUCTS = {"cpu": 1, "cuda": 10}  # timed together


def look(device: str | None = None) -> Machine:
    """What this machine is, measured in about a second. `device` None takes a GPU where there is one.

    Raises `RequestError` where torch does not see the device that was asked for.
    """
    import psutil
    import torch

    from llmops.lm.fast.kernels import multiplies_pairs, working_compiler

    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if chosen.startswith("cuda") and int(chosen.partition(":")[2] or 0) >= torch.cuda.device_count():
        raise RequestError(f"torch sees no {chosen} here", "leave out --device, or install the CUDA build of torch")
    memory = psutil.virtual_memory()
    total, free = memory.total, free_bytes()
    if chosen.startswith("cuda"):
        free, total = torch.cuda.mem_get_info()
    return Machine(
        processor=torch.cuda.get_device_name() if chosen.startswith("cuda") else _processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=total,
        free_bytes=free,
        device=chosen,
        float32_flops=measure_flops("float32", chosen),
        bfloat16_flops=measure_flops("bfloat16", chosen) if has_fast_bfloat16(chosen) else 0.0,
        compiler=working_compiler(),
        pairs=multiplies_pairs(),
    )


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", path.read_text()) if path.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def has_fast_bfloat16(device: str) -> bool:
    """Whether the processor has instructions for bfloat16 products. Without, one large product takes a minute."""
    if device.startswith("cuda"):
        return True
    path = Path("/proc/cpuinfo")
    words = set(path.read_text().split()) if path.exists() else set()
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})


def measure_flops(precision: str, device: str) -> float:
    """Operations a second of a large square product, best of a few; rounded to two digits, because it wavers."""
    import torch

    kind = "cuda" if device.startswith("cuda") else "cpu"
    side, products = SIDE[kind], PRODUCTS[kind]
    # A GPU is faster on constants, because fewer bits change (894 against 788 TFLOP/s on an H200).
    drawn = torch.rand(side, side, generator=torch.Generator().manual_seed(0))
    square = drawn.to(device, getattr(torch, precision))
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        for _ in range(products):
            square @ square
        if kind == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return float(f"{2 * side**3 * products / best:.2g}")


def peak_memory_bytes(device: str = "cpu") -> int:
    """The most memory this process has held so far: on the GPU, else resident."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated())
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
