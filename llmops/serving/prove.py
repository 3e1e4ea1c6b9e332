"""The proof of serving: what a hostile or a busy world does to the endpoint, each check with a fault it must find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from llmops.core.proof import CheckResult, Size
from llmops.serving import prove_doors, prove_load, prove_readers, prove_stop, prove_trials
from llmops.store.workspace import Workspace

CHECKS: tuple[Callable[[Size, Path], CheckResult], ...] = (
    prove_doors.authentication,
    prove_doors.traversal,
    prove_doors.hostile_artefacts,
    prove_doors.malformed,
    prove_readers.streams,
    prove_readers.unicode_texts,
    prove_readers.leavers,
    prove_load.long_prompts,
    prove_load.slow_readers,
    prove_load.memory,
    prove_stop.sigterm,
    prove_stop.handovers,
    prove_trials.drawn,
    prove_trials.shadows,
)


def checks(size: Size, at: Workspace) -> Iterator[CheckResult]:
    """Each check in turn, in a scratch folder of the workspace, on an endpoint of its own answered by a script."""
    with TemporaryDirectory(prefix="prove-serving-", dir=at.root) as folder:
        for check in CHECKS:
            yield check(size, Path(folder))
