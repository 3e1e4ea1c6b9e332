"""Rows that share a source: what that costs, where a model is weak, and what its probabilities are worth."""

from __future__ import annotations

import numpy as np
import pytest

from llmops.core.errors import RequestError
from llmops.core.report import EvalReport
from llmops.evals.calibration import FEWEST_SOURCES, abstain, calibrate, temperature_of, tempered, too_few
from llmops.evals.intervals import bootstrap, design_effect, wilson, wilson_clustered
from llmops.evals.pages.report import report_page
from llmops.evals.score import Measured
from llmops.evals.slices import find_slices
from llmops.experiments.compare import difference, paired
from llmops.experiments.tests import bootstrap as paired_bootstrap
from llmops.experiments.tests import clustered
from tests.unit.sample_values import report

SOURCES = [str(place // 5) for place in range(200)]


def test_ten_copies_of_a_row_are_one_witness():
    marks = [float(place < 14) for place in range(20)]
    copied, sources = (
        [mark for mark in marks for _ in range(10)],
        [str(place) for place in range(20) for _ in range(10)],
    )
    assert design_effect(copied, [1.0] * 200, sources) == pytest.approx(10 * 199 / 200 * 20 / 19, rel=1e-6)
    alone, together = wilson(14, 20), wilson_clustered(copied, sources)
    assert together[0] < alone[0] + 0.02 and together[1] > alone[1] - 0.02
    assert wilson(140, 200)[0] > together[0] + 0.1  # planted: ten copies would have looked like ten witnesses


def test_sources_that_do_not_matter_cost_nothing():
    marks = np.random.default_rng(0).integers(0, 2, 200).astype(float).tolist()
    assert design_effect(marks, [1.0] * 200, SOURCES) < 1.5
    low, high = wilson_clustered(marks, SOURCES)
    plain = wilson(sum(marks), 200)
    assert low <= plain[0] + 1e-9 and high >= plain[1] - 1e-9


def test_all_right_in_few_sources_is_not_certainty():
    assert wilson_clustered([1.0] * 200, SOURCES)[0] == pytest.approx(wilson(40, 40, 2.0227)[0], abs=1e-3)
    assert wilson_clustered([1.0] * 200, SOURCES)[0] < wilson(200, 200)[0]


def test_the_bootstrap_draws_sources():
    random = np.random.default_rng(1)
    marks = np.repeat(random.normal(0, 1, 40), 5) + random.normal(0, 0.1, 200)
    low, high = bootstrap(marks.tolist(), [1.0] * 200, groups=SOURCES)
    blind = bootstrap(marks.tolist(), [1.0] * 200)
    assert high - low > 1.8 * (blind[1] - blind[0])


def test_a_score_says_how_many_sources_it_rests_on():
    marks = [float(place % 10 < 5) for place in range(200)]
    measured = Measured("accuracy", [int(mark) for mark in marks], [1] * 200, marks)
    found = measured.score(range(200), SOURCES)
    assert found.groups == 40 and found.design_effect is not None and found.design_effect > 4
    plain = measured.score(range(200))
    assert plain.groups is None and "groups" not in plain.to_json()
    assert found.high - found.low > 2 * (plain.high - plain.low)
    assert measured.score(range(5), SOURCES).groups is None  # one source alone


def two(grouped: bool) -> tuple[EvalReport, EvalReport]:
    """Two reports whose answers differ by whole sources."""
    chance = np.random.default_rng(3)
    base = report("base", [0.0] * 200)
    better = np.repeat(chance.random(40) < 0.25, 5)
    worse = np.repeat(chance.random(40) < 0.1, 5) & ~better
    base = report("base", [float(mark) for mark in worse])
    tuned = report("tuned", [float(mark) for mark in better])
    if not grouped:
        return base, tuned
    groups = dict(zip((answer.row for answer in base.answers), SOURCES, strict=True))
    return tuple(
        one.replace(answers=tuple(answer.replace(group=groups[answer.row]) for answer in one.answers))
        for one in (base, tuned)
    )  # type: ignore[return-value]


def test_a_comparison_of_shared_sources_is_less_sure_than_one_of_rows():
    blind = difference(paired(*two(grouped=False), "accuracy"), "accuracy")
    found = difference(paired(*two(grouped=True), "accuracy"), "accuracy")
    assert found.test == "clustered" and found.groups == 40 and found.delta == blind.delta
    assert found.design_effect is not None and found.design_effect > 3
    assert found.high - found.low > 1.7 * (blind.high - blind.low) and found.p > blind.p


def test_a_clustered_test_is_never_surer_than_the_rows():
    """Within each source one row gains and one loses, so sources alone show no spread at all."""
    changes = np.tile([1.0, -1.0, 0.0, 0.0, 0.0], 40)
    found = clustered(changes, np.ones(200), SOURCES)
    assert found.low < -0.05 and found.high > 0.05 and found.verdict == "cannot tell"
    graded = np.tile([0.9, -0.9, 0.1, -0.1, 0.0], 40)
    assert clustered(graded, np.ones(200), SOURCES).p >= paired_bootstrap(graded, np.ones(200)).p


def test_one_source_cannot_show_a_difference():
    with pytest.raises(RequestError, match="one source"):
        clustered(np.ones(5), np.ones(5), ["a"] * 5)


def sliced_report(weak: float) -> EvalReport:
    """300 rows by topic and place; those about engines are right less often."""
    chance = np.random.default_rng(4)
    marks, fields, prompts = [], [], []
    for place in range(300):
        topic = (
            "engine wheel brake road tyre clutch",
            "flour oven bread butter yeast salt",
            "river forest bird stone moss fern",
        )[place % 3]
        words = chance.choice(topic.split(), 6).tolist()
        marks.append(float(chance.random() < (weak if place % 3 == 0 else 0.9)))
        fields.append({"place": ("north", "south")[place % 2]})
        prompts.append(" ".join(words + ["thing"] * int(chance.integers(0, 12))))
    made = report("tuned", marks, fields=fields)
    return made.replace(
        answers=tuple(answer.replace(prompt=prompt) for answer, prompt in zip(made.answers, prompts, strict=True))
    )


def test_a_weak_topic_is_found_by_its_words_and_comes_first():
    found = find_slices(sliced_report(weak=0.5))
    worst = found.slices[0]
    assert worst.by == "cluster" and worst.verdict == "weak" and worst.gap < -0.2
    assert {"engine", "wheel", "brake", "road", "tyre", "clutch"} & set(worst.name.replace(",", "").split())
    assert {one.by for one in found.slices} == {"field", "length", "cluster"}
    assert all(one.adjusted_p >= one.p for one in found.slices)


def test_a_model_that_is_even_has_no_weak_slice():
    found = find_slices(sliced_report(weak=0.9))
    assert [one.verdict for one in found.slices] == ["cannot tell"] * len(found.slices)


def calibrated(temperature: float, n: int = 1500, seed: int = 5) -> EvalReport:
    """A report of a model whose log-odds are `temperature` times too large."""
    chance = np.random.default_rng(seed)
    odds = chance.normal(0, 1.5, n)
    good = chance.random(n) < 1 / (1 + np.exp(-odds))
    said = 1 / (1 + np.exp(-odds * temperature))
    made = report("tuned", [float((share > 0.5) == true) for share, true in zip(said, good, strict=True)])
    answers = tuple(
        answer.replace(
            expected="good" if true else "bad",
            answered="good" if share > 0.5 else "bad",
            chances={"good": float(share), "bad": float(1 - share)},
        )
        for answer, share, true in zip(made.answers, said, good, strict=True)
    )
    return made.replace(answers=answers)


def test_the_temperature_of_a_model_that_is_too_sure_is_found():
    found = calibrate(calibrated(temperature=3.0))
    assert found.temperature == pytest.approx(3.0, abs=0.4)
    assert found.error_before.low > 0.05 and found.error_after.value < found.error_before.value / 2
    assert found.nats_after < found.nats_before
    assert sum(one.n for one in found.before) == 1500


def test_where_all_rows_are_right_no_answer_becomes_certain():
    chances = np.tile([[0.9, 0.1], [0.2, 0.8]], (50, 1))
    truth = np.tile([0, 1], 50)
    made = tempered(chances, temperature_of(chances, truth))
    assert 0.97 < made.max() < 0.9999 and made[:, :1].min() > 1e-4


def test_a_calibrated_model_is_left_alone():
    found = calibrate(calibrated(temperature=1.0))
    assert found.fitted == pytest.approx(1.0, abs=0.15) and found.mood is None
    assert found.error_before.low == 0.0 and found.error_before.value > 0.005  # the plain number is never 0
    assert 0.5 < found.error_before.value / found.error_by_chance < 2


def test_a_temperature_that_does_not_help_rows_apart_is_not_kept():
    sure = calibrate(calibrated(temperature=3.0))
    assert sure.mood == "too sure" and sure.temperature == sure.fitted and sure.nats_change.high < 0
    shy = calibrate(calibrated(temperature=0.4))
    assert shy.mood == "not sure enough" and shy.temperature == shy.fitted
    found = [calibrate(calibrated(1.0, n=120, seed=seed)) for seed in range(12)]
    assert {one.temperature == 1.0 for one in found} == {True, False}
    for one in found:
        assert (one.temperature == 1.0) == (one.nats_after >= one.nats_before)
    assert all(one.mood is None for one in found)


def test_a_lucky_calibration_error_has_no_short_interval():
    found = [calibrate(calibrated(1.0, n=300, seed=seed)) for seed in range(8)]
    lucky = [one for one in found if one.error_before.value < one.error_by_chance]
    assert lucky and all(one.error_before.high >= one.error_by_chance for one in lucky)
    assert all(one.error_before.low <= one.error_before.value <= one.error_before.high for one in found)


def test_tempering_keeps_the_winner_and_the_sum():
    chances = np.random.default_rng(6).dirichlet([1, 1, 1], 50)
    for temperature in (0.3, 1.0, 4.0):
        made = tempered(chances, temperature)
        assert (made.argmax(axis=1) == chances.argmax(axis=1)).all() and np.allclose(made.sum(axis=1), 1)
    assert np.allclose(tempered(chances, 1.0), chances)


def test_a_threshold_keeps_its_promise_or_is_not_given():
    made = calibrated(temperature=2.0)
    found = abstain(made, 0.2)
    assert found.threshold is not None and 0.2 < found.answered < 1 and found.bound is not None and found.bound <= 0.2
    stricter = abstain(made, 0.1)
    assert stricter.threshold is not None and stricter.threshold > found.threshold
    assert abstain(made, 0.001).threshold is None  # 1,500 rows cannot promise one in a thousand
    with pytest.raises(RequestError, match="no promise"):
        abstain(made, 0.0)


def test_a_threshold_is_judged_on_rows_that_did_not_choose_it():
    found = abstain(calibrated(temperature=2.0), 0.2)
    assert found.apart is not None and found.apart.wrong is not None and found.apart.answered.n == 1500
    assert found.apart.wrong.value < 0.2 and found.apart.answered.value == pytest.approx(found.answered, abs=0.15)
    made = calibrated(temperature=1.0, n=153)  # as few as can promise 5 %: with a fold less, nobody can
    said = {"expected": "good", "answered": "good", "chances": {"good": 0.9, "bad": 0.1}}
    answers = tuple(answer.replace(**said) for answer in made.answers)
    edge = abstain(made.replace(answers=answers), 0.05)
    assert edge.threshold == 0.9 and edge.apart is not None
    assert edge.apart.answered.value == 0 and edge.apart.wrong is None


def test_a_report_without_probabilities_cannot_be_calibrated():
    with pytest.raises(RequestError, match="no probabilities"):
        calibrate(report("tuned", [1.0] * 100))
    few = calibrated(temperature=1.0, n=30)
    with pytest.raises(RequestError, match="30 rows"):
        calibrate(few)


@pytest.mark.parametrize("sources", [1, 2, 9, 10])
def test_few_sources_say_nothing_of_reliability_however_many_rows_they_have(sources: int) -> None:
    """Of one source the other folds are empty, and 300 rows of two had an interval of 0.0002 nats."""
    made = calibrated(temperature=2.0, n=300)
    answers = [
        answer.replace(group=f"g{place % sources}", probability=max(answer.chances.values()))
        for place, answer in enumerate(made.answers)
    ]
    grouped = made.replace(answers=tuple(answers))
    assert (too_few(grouped) is None) == (sources >= FEWEST_SOURCES)
    assert ("Expected calibration error" in report_page(grouped)) == (sources >= FEWEST_SOURCES)
    if sources < FEWEST_SOURCES:
        with pytest.raises(RequestError, match=f"rows of {sources} source"):
            calibrate(grouped)
