"""Proof of what evaluation claims: every part injects its own faults, and counts what was found."""

from __future__ import annotations

from collections.abc import Iterator

from llmops.core.proof import CheckResult, Size
from llmops.evals import prove_exam, prove_forgetting, prove_metrics, prove_paired, prove_statistics
from llmops.store.workspace import Workspace

# Each has `checks(size, at)`.
PARTS = (prove_statistics, prove_metrics, prove_paired, prove_exam, prove_forgetting)


def checks(size: Size, at: Workspace) -> Iterator[CheckResult]:
    """Every check of every part."""
    for part in PARTS:
        yield from part.checks(size, at)
