"""Proof of what comparisons and choices claim: every part injects its own faults, and counts what was found."""

from __future__ import annotations

from collections.abc import Iterator

from llmops.core.proof import CheckResult, Size
from llmops.experiments import prove_chooser, prove_tests
from llmops.store.workspace import Workspace

# Each has `checks(size, at)`.
PARTS = (prove_tests, prove_chooser)


def checks(size: Size, at: Workspace) -> Iterator[CheckResult]:
    """Every check of every part."""
    for part in PARTS:
        yield from part.checks(size, at)
