"""What rows can show before the run, Holm's correction, and what it costs to vary a recipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import llmops
from llmops.core.comparison import holm
from llmops.core.errors import RequestError
from llmops.experiments.compare import compare
from llmops.experiments.power import best_two, mcnemar_power, power, power_from
from llmops.experiments.vary import combinations, jobs_for, knobs_of, knobs_typed
from llmops.store.workspace import Workspace
from tests.unit.sample_values import report, share
from tests.unit.tiny_life import tiny_recipe


def test_the_rows_needed_for_a_difference_show_it():
    told = power(600, "accuracy", wanted=0.05, changed=0.2)
    assert told.rows_needed is not None and told.changed is not None
    assert mcnemar_power(told.rows_needed, told.changed, 0.05) == pytest.approx(0.8, abs=0.01)
    assert told.smallest == pytest.approx(0.0523, abs=0.0006)
    assert power(told.rows_needed, "accuracy", changed=0.2).smallest == pytest.approx(0.05, abs=0.002)


def test_few_rows_can_show_nothing_and_say_so():
    told = power(4, "accuracy", changed=0.2)
    assert told.smallest is None and "no difference at all" in told.sentence


def test_graded_marks_are_told_in_deviations_until_they_are_measured():
    assert "standard deviations" in power(300, "bits_per_byte").sentence
    chance = np.random.default_rng(0)
    before = chance.normal(1.5, 0.2, 300)
    base = report("base", before.tolist(), "absolute_error")
    tuned = report("tuned", (before - chance.normal(0.05, 0.1, 300)).tolist(), "absolute_error")
    told = power_from(base, tuned, "absolute_error")
    assert told.deviation == pytest.approx(0.1, rel=0.15) and told.smallest == pytest.approx(0.0163, rel=0.15)


def test_sources_make_rows_count_for_less():
    base = report("base", share(60, 200))
    tuned = report("tuned", share(100, 200))
    plain = power_from(base, tuned, "accuracy")
    grouped = [
        one.replace(answers=tuple(answer.replace(group=str(int(answer.row[1:]) // 10)) for answer in one.answers))
        for one in (base, tuned)
    ]
    told = power_from(grouped[0], grouped[1], "accuracy")
    assert told.design_effect > 8 and told.smallest is not None and plain.smallest is not None
    assert told.smallest > 2 * plain.smallest and "rows counting as one" in told.sentence


def test_the_next_comparison_is_taken_to_be_like_that_of_the_two_best():
    reports = [report("majority", share(40, 100)), report("tuned", share(80, 100)), report("tfidf", share(79, 100))]
    found = best_two(reports, "accuracy")
    assert found is not None and [one.subject.kind for one in found] == ["tfidf", "tuned"]
    assert best_two(reports[:1], "accuracy") is None


def test_holm_is_the_step_down_of_bonferroni():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({}) == {} and holm({"a": 0.2}) == {"a": 0.2} and holm({"a": 0.9, "b": 0.8})["b"] == 1.0


def test_one_lucky_slice_of_twenty_is_not_called_better():
    fields = [{"shop": f"s{number % 20}"} for number in range(400)]
    lucky = [1.0 if number % 20 == 3 and number < 140 else 0.0 for number in range(400)]
    base, tuned = report("base", [0.0] * 400, fields=fields), report("tuned", lucky, fields=fields)
    one = compare(base, tuned).slices["shop=s3"]
    assert one.p < 0.05 and one.low > 0  # planted: alone, it would have been called better
    assert one.adjusted_p is not None and one.adjusted_p > 0.05 and one.verdict == "cannot tell"


def test_knobs_are_named_in_python_and_typed_on_the_command_line():
    given = knobs_of({"method__rank": (4, 16), "training.seed": range(2), "base": "smollm2-135m-q4"})
    assert [(knob.field, knob.values) for knob in given][:2] == [
        ("method.rank", ("4", "16")),
        ("training.seed", ("0", "1")),
    ]
    typed = knobs_typed(["method.rank=4,16", 'evaluation.slices=[a, b],["c, d"]', "task.question='x, y',z"])
    assert typed[0] == given[0] and typed[1].values == ("[a, b]", '["c, d"]') and typed[2].values == ("'x, y'", "z")
    assert [sets[0] for sets in combinations(typed[:2])] == ["method.rank=4"] * 2 + ["method.rank=16"] * 2


def test_a_knob_that_makes_no_sense_is_refused():
    for typed, what in (
        (["method.rank"], "varies nothing"),
        (["a=1,1"], "same value twice"),
        ([], "nothing is varied"),
    ):
        with pytest.raises(RequestError, match=what):
            combinations(knobs_typed(typed))
    with pytest.raises(RequestError, match="varied twice"):
        combinations(knobs_typed(["a=1", "a=2"]))
    with pytest.raises(RequestError, match="1,000 recipes"):
        combinations(knobs_of({"a": range(10), "b": range(10), "c": range(10)}))


def test_recipes_are_varied_and_a_wrong_knob_names_its_neighbour(tmp_path: Path):
    recipe = tiny_recipe(tmp_path / "base", tmp_path / "rows.csv")
    found = llmops.vary(recipe, method__rank=(2, 4), training__learning_rate=(1e-5, 0.01))
    assert [(one.method.rank, one.training.learning_rate) for one in found] == [  # type: ignore[union-attr]
        (2, 1e-5), (2, 0.01), (4, 1e-5), (4, 0.01)
    ]  # fmt: skip
    methods = llmops.vary(recipe, method=(llmops.LoRA(rank=2), llmops.IA3()))
    assert [one.method.kind for one in methods] == ["lora", "ia3"]
    with pytest.raises(RequestError, match="'rang'") as wrong:
        llmops.vary(recipe, method__rang=(2, 4))
    assert "did you mean 'rank'" in wrong.value.fix
    with pytest.raises(RequestError, match="at most 1024"):
        llmops.vary(recipe, method__rank=(2, 4000))


def test_as_many_train_at_a_time_as_cores_and_memory_hold():
    assert jobs_for(8, 4, 16 * 10**9, 2 * 10**9, on_gpu=False)[0] == 4
    assert jobs_for(2, 4, 16 * 10**9, 2 * 10**9, on_gpu=False)[0] == 2
    jobs, because = jobs_for(8, 4, 6 * 10**9, 2 * 10**9, on_gpu=False)
    assert jobs == 2 and "GB" in because
    assert jobs_for(8, 4, 10**9, 2 * 10**9, on_gpu=False)[0] == 1
    assert jobs_for(8, 4, 16 * 10**9, 2 * 10**9, on_gpu=True) == (1, "a GPU trains one at a time")


def test_power_of_a_number_of_rows_needs_nothing_stored(workspace: Workspace):
    assert llmops.power("600", workspace, wanted=0.02).rows_needed == power(600, "accuracy", 0.02).rows_needed
    with pytest.raises(RequestError, match="1 rows"):
        llmops.power(1, workspace)


@pytest.mark.parametrize("asked", [{"wanted": 2.0}, {"wanted": 0.0}, {"wanted": -0.1}, {"wanted": float("nan")}])
def test_a_difference_that_cannot_be_is_refused(workspace: Workspace, asked: dict[str, float]):
    with pytest.raises(RequestError, match=r"difference|differ"):
        llmops.power(600, workspace, **asked)


@pytest.mark.parametrize("changed", [0.0, -0.3, 1.5])
def test_a_share_of_rows_that_is_none_is_refused(workspace: Workspace, changed: float):
    with pytest.raises(RequestError, match="no share of rows"):
        llmops.power(600, workspace, changed=changed)


def test_a_measure_of_all_rows_has_no_pairs_to_speak_of(workspace: Workspace):
    with pytest.raises(RequestError, match="macro F1 is one number of all rows") as refused:
        llmops.power(600, workspace, "macro_f1")
    assert "accuracy" in refused.value.fix and "macro_f1" not in refused.value.fix


def test_a_measure_that_nobody_knows_is_refused_and_the_known_ones_are_named(workspace: Workspace):
    with pytest.raises(RequestError, match="measured by 'acuracy'") as refused:
        llmops.power(600, workspace, metric="acuracy")
    assert "accuracy" in refused.value.fix
    assert llmops.power(600, workspace, metric="rougeL").deviation is None


@pytest.mark.parametrize("metric", ["includes", "exact", "number", "regex"])
def test_right_or_wrong_by_a_scorer_is_a_share_too(metric: str):
    assert power(600, metric).smallest == power(600, "accuracy").smallest
