"""The pieces that every proof is made of: a planted fault that a check lets pass must not go unseen."""

from __future__ import annotations

from llmops.core.proof import Proof, caught, covers, found_out


def test_a_fault_that_its_check_lets_pass_fails_the_proof_by_name() -> None:
    blind, sharp = caught("a check", 1, 1), caught("a check", 0, 1, note="saw it")
    seen = found_out("faults", {"one": sharp, "two": sharp})
    assert (seen.passed, seen.found, seen.note) == (True, 2, "one: saw it; two: saw it")
    missed = found_out("faults", {"one": sharp, "two": blind})
    assert (missed.passed, missed.found, missed.of, missed.note) == (False, 1, 2, "two")
    assert not Proof(checks=(seen, missed)).passed


def test_an_interval_may_be_neither_too_narrow_nor_too_wide() -> None:
    assert [covers("an interval", held, 1000).passed for held in (929, 930, 970, 971)] == [False, True, True, False]


def test_a_false_alarm_fails_a_check_that_found_everything() -> None:
    assert caught("a check", 3, 3, 0, 5).passed
    assert not caught("a check", 3, 3, 1, 5).passed
