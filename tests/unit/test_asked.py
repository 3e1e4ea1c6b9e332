"""Held-out rows asked by 32 readers at once get the answers that were measured offline."""

from __future__ import annotations

from llmops.pipeline import prove_asked
from llmops.pipeline.prove import PROOFS
from llmops.store.workspace import Workspace


def test_32_readers_hear_what_one_hears_and_what_was_measured_and_a_mix_up_is_found(workspace: Workspace) -> None:
    (result,) = prove_asked.checks("ci", workspace)
    assert result.passed, result
    assert (result.found, result.false_alarms) == (1, 0) and result.clean >= 240
    assert "llmops.pipeline.prove_asked" in PROOFS["serving"]
    assert not (workspace.root / "proof-asked").exists()
