"""The proof of training: faults injected into runs, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from llmops.core.proof import CheckResult, Size
from llmops.store.workspace import Workspace
from llmops.training import prove_crashes, prove_guards, prove_processes

CHECKS: tuple[Callable[[Size, Path], CheckResult], ...] = (
    prove_crashes.kills,
    prove_crashes.crash_states,
    prove_crashes.disk_faults,
    prove_crashes.terminated,
    prove_guards.nans,
    prove_guards.nothing_bad_is_saved,
    prove_guards.memory_shrinks,
    prove_guards.wrong_adapters,
    prove_guards.foreign_checkpoints,
    prove_guards.same_twice,
    prove_processes.processes,
)


def checks(size: Size, at: Workspace) -> Iterator[CheckResult]:
    """Each check in turn, in a scratch folder of the workspace."""
    with prove_crashes.scratch(at.root) as folder:
        for check in CHECKS:
            yield check(size, folder)
