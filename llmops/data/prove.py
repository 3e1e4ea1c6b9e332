"""Proof of the data room: every part injects its own faults, and counts what was found."""

from __future__ import annotations

from collections.abc import Iterator

from llmops.core.proof import CheckResult, Size
from llmops.data import prove_cleaning, prove_files, prove_kinds, prove_leaks, prove_trials
from llmops.store.workspace import Workspace

# Each has `checks(size, at)`.
PARTS = (prove_kinds, prove_files, prove_cleaning, prove_leaks, prove_trials)


def checks(size: Size, at: Workspace) -> Iterator[CheckResult]:
    """Every check of every part."""
    for part in PARTS:
        yield from part.checks(size, at)
