"""`llmops prove evaluation`: the checks of intervals and tests pass what is right and find what is wrong."""

from __future__ import annotations

import pytest

from llmops.core.proof import CheckResult
from llmops.evals import prove_statistics
from llmops.experiments import prove_tests
from llmops.pipeline.prove import PROOFS


def test_wrong_intervals_and_wrong_tests_are_found_out() -> None:
    for found in (prove_statistics.planted(), prove_tests.planted()):
        assert found.passed and found.found == found.of == 4, found


def test_the_tests_of_the_room_pass_their_own_proof() -> None:
    checks: list[CheckResult] = [
        prove_tests.equal("", *prove_tests._equal_shares()),
        prove_tests.equal("", *prove_tests._equal_rates(clusters=True, grouped=True)),
        prove_tests.found("", *prove_tests._power_of_shares()),
        prove_tests.covers("", *prove_tests._cover_shares()),
        prove_statistics.covers("", *prove_statistics._rates(clustered=True, blind=False)),
        prove_statistics.covers("", *prove_statistics._wilson_clustered(prove_statistics.wilson_clustered)),
    ]
    assert all(check.passed for check in checks), checks


def test_a_test_that_calls_everything_better_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    always = prove_tests.mcnemar(200, 100, 0)
    monkeypatch.setattr(prove_tests, "quick_mcnemar", lambda n, gained, lost: always)
    assert not prove_tests.equal("", *prove_tests._equal_shares()).passed


def test_an_interval_of_everything_fails() -> None:
    assert not prove_statistics.covers("", *prove_statistics._wilson_clustered(lambda marks, groups: (0.0, 1.0))).passed


def test_evaluation_is_proved_by_each_room_that_has_a_part_in_it() -> None:
    assert {"llmops.evals.prove", "llmops.experiments.prove"} <= set(PROOFS["evaluation"])
