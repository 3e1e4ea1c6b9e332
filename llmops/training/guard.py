"""Guards: what stops training before it does harm. A number that is not finite; memory that runs short."""

from __future__ import annotations

import gc
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from llmops.core.errors import LlmopsError
from llmops.core.plan import Decision, Knobs, Plan
from llmops.lm.memory import free_bytes, resident_bytes

if TYPE_CHECKING:
    import torch

LOOK_EVERY_S = 0.05
# Two cores fill about 2 GB of fresh memory a second, so 100 MB between two looks; twice that is kept free.
RESERVE_BYTES = 200_000_000
SMALLEST_PACK = 32
ALARM = signal.SIGUSR2


class NotFinite(LlmopsError):
    """A loss or a gradient was NaN or infinite. `batch` holds the places of the rows of that step."""

    def __init__(self, step: int, what: str, batch: Sequence[int], rows: Sequence[str]) -> None:
        super().__init__(
            f"step {step}: {what}, in training rows {', '.join(rows)}",
            "look at those rows with 'llmops inspect', or lower training.learning_rate",
        )
        self.step, self.said, self.batch = step, what, batch

    def named(self, ids: Sequence[str]) -> NotFinite:
        """The same, with the id of each row."""
        return NotFinite(self.step, self.said, self.batch, [f"{place} ({ids[place]})" for place in self.batch])


def check_step(step: int, loss: float, norm: float, batch: Sequence[int]) -> None:
    """Raise `NotFinite` unless the loss and the gradient's norm of a step are finite numbers."""
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise NotFinite(step, f"loss {loss}, gradient norm {norm}", batch, [str(place) for place in batch])


def check_weights(tensors: Mapping[str, torch.Tensor], step: int) -> None:
    """Raise `LlmopsError` where a tensor that would be saved holds NaN or infinity."""
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise LlmopsError(
                f"after step {step}, {name!r} holds NaN or infinity, so it is not saved",
                "go on from the last checkpoint with --resume, or lower training.learning_rate",
            )


class MemoryShort(Exception):
    """There is not enough memory to go on as planned. The weights are those of the step before."""


class MemoryGuard:
    """Raises `MemoryShort` while a batch goes through the model, before the kernel kills the process.

    `room` is the seam: bytes that may still be taken, below 0 where it is time. A thread looks every `LOOK_EVERY_S`;
    what it sees is raised in the main thread, between two operations, by a signal handler that does nothing outside
    `watched`. Where training runs in another thread, the room is looked at before each batch only.
    """

    def __init__(self, room: Callable[[], int]) -> None:
        self._room = room
        self._armed = False
        self._over = threading.Event()

    @contextmanager
    def on(self) -> Iterator[MemoryGuard]:
        """The guard at work."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = signal.signal(ALARM, self._ring)
        thread = threading.Thread(target=self._look, name="memory guard", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()
            signal.signal(ALARM, before)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A stretch that can be left anywhere without harm. An allocation that fails is memory short, too."""
        room = self._room()
        if room < 0:
            raise MemoryShort(f"{-room / 1e6:,.0f} MB too much were held before the step")
        self._armed = True
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryShort(str(error).splitlines()[0]) from error
        finally:
            self._armed = False

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if self._armed:
            self._armed = False  # once: a second one could strike while the first is dealt with
            raise MemoryShort("the room for memory ran out within the step")

    def _look(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            if self._armed and self._room() < 0:
                os.kill(os.getpid(), ALARM)


UNGUARDED = MemoryGuard(lambda: sys.maxsize)


def room_for(knobs: Knobs) -> Callable[[], int]:
    """The room of one process of a plan: of the planned limit, and of what the kernel has to give less a reserve."""
    limit = knobs.max_memory_bytes // knobs.processes
    if knobs.device.startswith("cuda"):  # the limit is of the GPU's memory, which says itself when it is full
        return lambda: free_bytes() - RESERVE_BYTES
    return lambda: min(limit - resident_bytes(), free_bytes() - RESERVE_BYTES)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a GPU or the system refused an allocation."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


def give_back_memory(device: str) -> None:
    """Hand freed memory back to the system, so that the room is seen as it is."""
    import ctypes

    import torch

    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    trim: Any = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


def shrink(plan: Plan, longest_tokens: int, why: str) -> Plan:
    """A plan for the same steps with half the tokens at once, which names the one that it replaces.

    The rows of a step stay the same (its gradient is the sum over its packs), so only rounding differs. Raises
    `LlmopsError` where packs hold no more than the longest row already.
    """
    knobs = plan.knobs
    tokens = max(SMALLEST_PACK, longest_tokens, knobs.pack_tokens // 2)
    if tokens >= knobs.pack_tokens:
        raise LlmopsError(
            f"memory ran short ({why}), and no pack can be smaller than the longest row, {longest_tokens} tokens",
            f"free some memory and go on with --resume, or lower training.max_tokens (now {knobs.max_tokens})",
        )
    because = f"{knobs.pack_tokens} at once were too many ({why}); a step's rows stay the same"
    fewer = Decision(field="pack_tokens", value=tokens, because=because)
    return plan.replace(
        knobs=knobs.replace(pack_tokens=tokens),
        decisions=tuple(fewer if decision.field == "pack_tokens" else decision for decision in plan.decisions),
        replaces=plan.id,
    )
