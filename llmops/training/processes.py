"""Several processes that train one model: each takes its share of a batch, and their gradients are summed.

Everything but the gradient of a batch is done alike by every process, so all hold the same weights and moments after
each step; only the first writes. A process knows its place by torchrun's variables (`RANK`, `WORLD_SIZE`,
`LOCAL_RANK`, `MASTER_ADDR`, `MASTER_PORT`), whoever set them: `launch` here, or torchrun on several machines.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from llmops.core.errors import LlmopsError, RequestError
from llmops.core.plan import Knobs

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
PLACE = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
GRACE_S = 300  # a step may take so long before a process that was asked to stop is killed
PATIENCE = timedelta(minutes=10)  # a process that is silent for so long is taken for lost


def is_member(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process was started as one of several."""
    return all(name in environ for name in PLACE)


def rank_of(environ: Mapping[str, str] = os.environ) -> int:
    """The number of this process among those that train together; 0 where it is alone."""
    return int(environ["RANK"]) if is_member(environ) else 0


@dataclass(frozen=True)
class Team:
    """The processes of a run as one of them sees them: its number from 0, and how many there are."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, items: Iterable[T]) -> Iterator[T]:
        """Every `size`-th item: together the processes have each once."""
        return islice(items, self.rank, None, self.size)

    def sum(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor, on every process, by its sum over the processes. One message, in float32."""
        import torch

        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        with self._together():
            torch.distributed.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def most(self, number: int) -> int:
        """The largest of the numbers that the processes give."""
        import torch

        if self.size == 1:
            return number
        value = torch.tensor([number], device=self._device())
        with self._together():
            torch.distributed.all_reduce(value, op=torch.distributed.ReduceOp.MAX)
        return int(value)

    def from_first(self, data: bytes) -> bytes:
        """The bytes that the first process gives, on every process."""
        import torch

        if self.size == 1:
            return data
        length = self.most(len(data) if self.first else 0)
        given = bytearray(data) if self.first else bytearray(length)
        buffer = torch.frombuffer(given, dtype=torch.uint8).to(self._device()) if length else torch.empty(0)
        with self._together():
            if length:
                torch.distributed.broadcast(buffer, src=0)
        return bytes(buffer.cpu().numpy().tobytes())

    def _device(self) -> str:
        import torch

        return "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Whatever breaks while processes speak with each other means that one of them is gone."""
        try:
            yield
        except RuntimeError as error:
            raise LlmopsError(
                f"process {self.rank} of {self.size} has lost the others: {str(error).splitlines()[0][:120]}",
                "see why one of them ended, then go on with --resume",
            ) from error


ALONE = Team()


@contextmanager
def joined(knobs: Knobs, environ: Mapping[str, str] = os.environ) -> Iterator[Team]:
    """The team of this process, for as long as it trains. Refuses where there are not as many as were planned."""
    found = int(environ["WORLD_SIZE"]) if is_member(environ) else 1
    if found != knobs.processes:
        raise RequestError(
            f"the plan is for {knobs.processes} processes, and there are {found}",
            "start it with 'llmops train --processes N', or start that many with torchrun",
        )
    if not is_member(environ):
        yield ALONE
        return
    import torch

    if torch.distributed.is_initialized():  # whoever called us has met the others already
        yield Team(torch.distributed.get_rank(), torch.distributed.get_world_size())
        return
    backend = "nccl" if knobs.device.startswith("cuda") else "gloo"
    if backend == "nccl":
        torch.cuda.set_device(int(environ["LOCAL_RANK"]))
    torch.distributed.init_process_group(backend, timeout=PATIENCE)
    try:
        team = Team(torch.distributed.get_rank(), torch.distributed.get_world_size())
        if team.size != found:
            raise LlmopsError(f"{found} processes were started and {team.size} met", "start them again")
        yield team
    finally:
        torch.distributed.destroy_process_group()


def shard_base(model: Any, knobs: Knobs) -> None:
    """Lay the frozen weights of each block in parts over the processes (FSDP 2); what is trained stays whole.

    Each block's weights are gathered just before they are used. The gradients of an adapter are then summed as
    they are without this, so the losses are the same.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    refused = {"full": "full tuning has no frozen weights", "qlora": "weights of 4 bits cannot be laid in parts"}
    if knobs.method.kind in refused:
        raise RequestError(
            f"training.shard full is for frozen weights of 16 or 32 bits: {refused[knobs.method.kind]}",
            "take another method, or leave training.shard out",
        )
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    blocks = inner.get_decoder().layers
    mesh = init_device_mesh("cuda" if knobs.device.startswith("cuda") else "cpu", (knobs.processes,))
    for block in blocks:
        fully_shard(block, mesh=mesh, ignored_params={weight for weight in block.parameters() if weight.requires_grad})


@dataclass(frozen=True)
class Ended:
    """How a launch ended badly: the process that did first, its exit code (negative: a signal), and its last words."""

    rank: int
    code: int
    said: str


def launch(command: Sequence[str], knobs: Knobs) -> Ended | None:
    """Run Python with the arguments `command` in as many processes as planned, on this machine, as torchrun does.

    What there is to know is in the run's folder: standard output is dropped, and standard error of all but the first.
    When one ends badly, all are ended. SIGTERM and SIGINT are handed on, and waited for; then, and where all ended
    well, returns None.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL + 1)  # it tells errors as tracebacks
    before = {number: signal.getsignal(number) for number in HANDLED}
    with tempfile.TemporaryDirectory(prefix="llmops-processes-") as logs:
        dropped = {rank: Std.ALL if rank else Std.OUT for rank in range(knobs.processes)}
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=knobs.processes,
            logs_specs=DefaultLogsSpecs(log_dir=logs, redirects=dropped),
            run_id=secrets.token_hex(8),
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            shutdown_timeout=GRACE_S,
        )
        try:
            elastic_launch(config, sys.executable)("-W", "ignore", *command)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            words = [path.read_text(errors="replace").split("\n") for path in Path(logs).rglob(f"{rank}/stderr.log")]
            said = [line for lines in words for line in lines if line.startswith("error: ")]
            return Ended(rank, failure.exitcode, said[-1].removeprefix("error: ") if said else "")
        except SignalException:
            return None
        finally:
            if threading.current_thread() is threading.main_thread():
                for number, handler in before.items():  # the launcher leaves its own
                    signal.signal(number, handler)
    return None
