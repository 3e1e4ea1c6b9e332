"""`compare` and `pick`: the printed verdict follows the printed interval, and noise is not called a difference."""

from __future__ import annotations

import numpy as np
import pytest

from llmops.core.errors import RequestError
from llmops.core.report import EvalReport, Suite
from llmops.experiments.compare import compare
from llmops.experiments.pick import pick
from llmops.experiments.tests import bootstrap, mcnemar
from tests.unit.sample_values import report, share


def test_the_verdict_follows_from_the_interval_and_agrees_with_p() -> None:
    checked = 0
    for n in (30, 200):
        for gained in range(0, 30, 2):
            for lost in range(0, 30 - gained, 3):
                found = mcnemar(n, gained, lost)
                assert -1 <= found.low <= found.delta <= found.high <= 1
                assert (found.verdict != "cannot tell") == (found.p < 0.05), (n, gained, lost)
                checked += 1
    assert checked > 100


def test_the_exact_p_is_the_binomial_one() -> None:
    assert mcnemar(100, 6, 0).p == pytest.approx(2 / 64)
    assert mcnemar(100, 5, 5).p == 1.0


def test_an_interval_never_claims_certainty_from_rows_that_agree() -> None:
    found = mcnemar(200, 0, 0)
    assert found.p == 1.0 and found.low == pytest.approx(-0.0188, abs=1e-4) and found.high == -found.low


def test_swapping_the_sides_turns_the_result_round() -> None:
    one, other = mcnemar(150, 20, 6), mcnemar(150, 6, 20)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low)) and one.p == other.p


def test_equal_models_are_called_better_in_at_most_5_of_100_comparisons() -> None:
    chance = np.random.default_rng(0)
    trials = 300
    better = 0
    for _ in range(trials):
        changed = chance.binomial(200, 0.2)
        better += mcnemar(200, gained := int(chance.binomial(changed, 0.5)), int(changed - gained)).verdict == "better"
    assert better / trials <= 0.05
    better = 0
    for _ in range(trials):
        weights = chance.integers(5, 200, 60).astype(float)
        better += bootstrap(chance.standard_t(4, 60) / np.sqrt(weights), weights).verdict == "better"
    assert better / trials <= 0.05


def test_the_interval_holds_the_true_difference_in_95_of_100_comparisons() -> None:
    chance = np.random.default_rng(1)
    trials, true, held = 400, 0.06, 0
    for _ in range(trials):
        gained, lost, _ = chance.multinomial(150, [0.13, 0.07, 0.8])
        found = mcnemar(150, int(gained), int(lost))
        held += found.low <= true <= found.high
    assert held / trials >= 0.94


def test_a_planted_difference_is_found() -> None:
    chance = np.random.default_rng(2)
    found = [mcnemar(600, *map(int, chance.multinomial(600, [0.12, 0.04, 0.84])[:2])).verdict for _ in range(100)]
    assert found.count("better") >= 95 and "worse" not in found


def test_bits_per_byte_is_weighted_by_bytes_and_up_is_better() -> None:
    chance = np.random.default_rng(3)
    weights = chance.integers(10, 100, 80).astype(float).tolist()
    before = chance.normal(1.5, 0.1, 80)
    after = before - chance.normal(0.1, 0.02, 80)
    base = report("base", before.tolist(), "bits_per_byte", weights=weights)
    tuned = report("tuned", after.tolist(), "bits_per_byte", weights=weights)
    found = compare(base, tuned)
    assert found.overall.test == "bootstrap" and found.verdict == "better" and found.overall.p < 0.001
    assert found.overall.delta == pytest.approx(base.main.value - tuned.main.value)
    assert compare(tuned, base).verdict == "worse"
    assert compare(base, base).verdict == "cannot tell"


def test_two_lucky_rows_prove_nothing() -> None:
    found = bootstrap(np.array([0.3, 0.2]), np.ones(2))
    assert found.verdict == "cannot tell" and found.p > 0.05
    with pytest.raises(RequestError, match="one row"):
        bootstrap(np.array([0.3]), np.ones(1))


def test_the_same_reports_give_the_same_comparison() -> None:
    marks = np.random.default_rng(4).normal(1, 0.1, 40).tolist()
    base, tuned = report("base", marks, "bits_per_byte"), report("tuned", marks[::-1], "bits_per_byte")
    assert compare(base, tuned).id == compare(base, tuned).id


def test_slices_are_compared_row_by_row_too() -> None:
    fields = [{"domain": "tweets" if number % 2 else "movies"} for number in range(60)]
    base = report("tfidf", [float(number % 2) for number in range(60)], fields=fields)
    tuned = report("tuned", [1.0] * 60, fields=fields)
    found = compare(base, tuned)
    assert set(found.slices) == {"domain=movies", "domain=tweets"}
    assert found.slices["domain=movies"].delta == 1.0 and found.slices["domain=tweets"].delta == 0.0
    assert found.overall.delta == 0.5


def test_two_different_suites_are_refused() -> None:
    other = Suite(dataset="ds-2", rows_sha256="0" * 64, measures=("accuracy",), slices=())
    with pytest.raises(RequestError, match="two different suites"):
        compare(report("base", share(5, 9)), report("tuned", share(6, 9), suite=other))


def test_missing_rows_repeated_rows_and_missing_marks_are_refused() -> None:
    base, tuned = report("base", share(5, 9)), report("tuned", share(6, 9))
    for answers in (tuned.answers[:-1], (*tuned.answers, tuned.answers[0]), (*tuned.answers[:-1], tuned.answers[0])):
        with pytest.raises(RequestError, match="same rows"):
            compare(base, tuned.replace(answers=answers))
    with pytest.raises(RequestError, match="not measured by bits_per_byte"):
        compare(base, tuned, "bits_per_byte")
    broken = tuned.answers[0].replace(marks={"accuracy": float("nan")})
    with pytest.raises(RequestError, match="not measured"):
        compare(base, tuned.replace(answers=(broken, *tuned.answers[1:])))


def test_rows_are_paired_by_id_not_by_place() -> None:
    base, tuned = report("base", share(5, 9)), report("tuned", share(5, 9))
    assert compare(base, tuned.replace(answers=tuned.answers[::-1])).overall.delta == 0.0


def rows_of(*right: tuple[str, int]) -> list[EvalReport]:
    return [report(kind, share(number, 1000)) for kind, number in right]  # type: ignore[arg-type]


def test_the_cheapest_that_is_not_worse_by_more_than_the_margin_is_picked() -> None:
    found = pick(rows_of(("tuned", 900), ("tfidf", 700), ("frozen", 899), ("base", 600)))
    assert found.subject.kind == "frozen"
    assert "frozen (accuracy 0.90)" in found.because and "1.00 points" in found.because
    assert "-0.10 (-0.56 to 0.28 points" in found.because


def test_a_row_that_is_not_shown_to_be_worse_is_not_good_enough() -> None:
    tuned, frozen = report("tuned", share(90, 100)), report("frozen", share(88, 100))
    assert compare(tuned, frozen).verdict == "cannot tell"  # planted: this alone would have let it through
    found = pick([tuned, frozen])
    assert found.subject.kind == "tuned" and "nearest, frozen (accuracy 0.88)" in found.because


def test_of_equal_rows_the_cheaper_one_is_the_best() -> None:
    assert pick([report("tuned", share(9, 10)), report("tfidf", share(9, 10))]).subject.kind == "tfidf"
    assert "nothing cheaper" in pick([report("majority", share(9, 10))]).because


def test_pick_by_bits_per_byte_takes_the_lowest_and_leaves_out_who_has_none() -> None:
    chance = np.random.default_rng(5)
    before = chance.normal(1.5, 0.1, 80)
    suite = Suite(dataset="ds-1", rows_sha256="0" * 64, measures=("bits_per_byte", "pick_reply"), slices=())
    base = report("base", before.tolist(), "bits_per_byte", suite=suite)
    tuned = report("tuned", (before - 0.2 + chance.normal(0, 0.01, 80)).tolist(), "bits_per_byte", suite=suite)
    cosine = report("tfidf", share(50, 80), "pick_reply", suite=suite)
    found = pick([cosine, base, tuned])
    assert found.subject.kind == "tuned" and found.margin == 0.01
    assert found.because.endswith("Without bits_per_byte: tfidf.") and "points" not in found.because


def test_nothing_to_pick_from_is_a_request_error() -> None:
    with pytest.raises(RequestError):
        pick([])
