"""`prove`: inject faults into every check of a room, and say which were found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from llmops.core.errors import RequestError
from llmops.core.proof import CheckResult, Proof, Size
from llmops.store.workspace import Workspace

# What can be proved, and the modules whose `checks(size, at)` yield a result for each check. Rooms do not import each
# other, so what two of them prove together has a module in each.
PROOFS: dict[str, tuple[str, ...]] = {
    "data": ("llmops.data.prove",),
    "training": ("llmops.training.prove",),
    "registry": ("llmops.registry.prove", "llmops.pipeline.prove_registry"),
    "serving": ("llmops.serving.prove", "llmops.pipeline.prove_asked", "llmops.pipeline.prove_serving"),
    "parity": ("llmops.pipeline.prove_parity",),
    "evaluation": ("llmops.evals.prove", "llmops.experiments.prove", "llmops.pipeline.prove_seeds"),
}


def prove(what: Sequence[str], at: Workspace, size: Size = "ci") -> Proof:
    """The checks of the named subjects (of all, where none is named). `size` soak takes long and proves more.

    Works in a scratch folder of its own inside the workspace; nothing else there is touched.
    """
    unknown = [name for name in what if name not in PROOFS]
    if unknown:
        raise RequestError(f"there is no proof of {unknown[0]!r}", f"there are: {', '.join(PROOFS)}")
    found: list[CheckResult] = []
    for name in what or PROOFS:
        for result in _checks(name, size, at):
            found.append(result)
            at.world.say(f"{'passed' if result.passed else 'FAILED'}  {result.name}: {result.found}/{result.of}")
    return Proof(checks=tuple(found))


def _checks(name: str, size: Size, at: Workspace) -> Iterator[CheckResult]:
    for home in PROOFS[name]:
        module: Any = import_module(home)
        yield from module.checks(size, at)
