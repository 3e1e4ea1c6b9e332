"""The proof of the registry: killed, crowded and peeked at. What two rooms prove together is in the pipeline."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from llmops.core.proof import CheckResult, Size
from llmops.registry import prove_canary, prove_kills, prove_writers
from llmops.registry.prove_postgres import programs
from llmops.store.workspace import Workspace

CHECKS: tuple[Callable[[Size, Path], CheckResult], ...] = (
    prove_kills.kills,
    prove_kills.planted,
    prove_writers.sqlite,
    prove_writers.planted,
    prove_canary.equal,
    prove_canary.worse,
    prove_canary.planted,
)
# Only where a server can be started.
POSTGRESQL: tuple[Callable[[Size, Path], CheckResult], ...] = (prove_writers.postgresql,)


def checks(size: Size, at: Workspace) -> Iterator[CheckResult]:
    """Each check in turn, in a scratch folder of the workspace."""
    folder = Path(tempfile.mkdtemp(prefix="proof-registry-", dir=at.root))
    try:
        for check in CHECKS:
            yield check(size, folder)
        if programs() is None:
            at.world.say("PostgreSQL is not installed here ('apt-get install postgresql'): not tried")
            return
        for check in POSTGRESQL:
            yield check(size, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
