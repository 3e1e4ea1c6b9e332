"""The rule of the chooser, the ladder of successive halving, the law of the forecaster: on numbers made up."""

from __future__ import annotations

import numpy as np
import pytest

from llmops.core.choice import Contest, Cost
from llmops.core.errors import RequestError
from llmops.core.recipe import Baselines
from llmops.experiments.choose import Rival, behind, choose, rows_needed
from llmops.experiments.entrants import entrants, examples, short, with_examples
from llmops.experiments.forecast import Curve, fit, nested, outlook, sizes
from llmops.experiments.halving import KEEP, Costs, ladder, survivors
from llmops.experiments.search import Tried, propose
from tests.unit.sample_values import row
from tests.unit.tiny_life import tiny_recipe


def rival(name: str, right: int, n: int, seconds: float, seed: int = 0) -> Rival:
    marks_N = np.random.default_rng(seed).permutation(np.arange(n) < right).astype(float)
    return Rival(name, marks_N, Cost(training_s=0, thousand_s=seconds, latency_s=0.01, memory_bytes=1))


def test_a_cheap_row_that_cannot_be_told_apart_is_picked() -> None:
    found = choose([rival("linear", 170, 200, 0.1), rival("tuned", 173, 200, 20, seed=1)], 0.01, 10_000)
    assert (found.pick, found.best) == ("linear", "tuned")
    assert "cannot be told apart" in found.because and "cannot rule out" in found.because


def test_a_cheap_row_that_is_worse_is_not() -> None:
    found = choose([rival("linear", 130, 200, 0.1), rival("tuned", 173, 200, 20, seed=1)], 0.01, 10_000)
    assert found.pick == found.best == "tuned"


def test_a_cheap_row_that_is_surely_a_little_worse_is_picked_within_the_margin() -> None:
    marks_N = np.ones(5000)
    marks_N[:15] = 0  # worse on 15 rows of 5,000, better on none: 0.3 points, and that is sure
    cost = Cost(training_s=0, thousand_s=0.1, latency_s=0.01, memory_bytes=1)
    rivals = [Rival("linear", marks_N, cost), Rival("tuned", np.ones(5000), cost.replace(thousand_s=9.0))]
    assert not behind(rivals)[0].tied
    assert choose(rivals, 0.01, 10_000).pick == "linear"
    assert choose(rivals, 0.001, 10_000).pick == "tuned"


def test_rows_that_cost_the_same_are_ranked_by_their_score() -> None:
    found = choose([rival("a", 170, 200, 10.0), rival("b", 172, 200, 10.5, seed=1)], 0.01, 10_000)
    assert found.pick == "b"


def test_a_cost_that_nobody_would_notice_is_no_reason() -> None:
    dear = rival("tuned", 104, 200, 40.0, seed=2)
    found = choose([rival("commonest", 100, 200, 0.0), rival("linear", 106, 200, 0.3, seed=1), dear], 0.01, 10_000)
    assert found.pick == found.best == "linear"
    assert "commonest, which cannot be told apart from it, saves nothing that anybody would notice" in found.because
    passed = choose([rival("commonest", 100, 200, 0.0), rival("linear", 102, 200, 0.3, seed=1), dear], 0.01, 10_000)
    assert (passed.pick, passed.best) == ("linear", "tuned")
    assert "linear is the best of the cheap ones" in passed.because and "commonest takes less" in passed.because
    noticed = choose([rival("commonest", 100, 200, 0.0), rival("linear", 106, 200, 3.0, seed=1), dear], 0.01, 10_000)
    assert noticed.pick == "commonest"


def test_a_base_in_memory_is_noticed_however_fast_it_is() -> None:
    small, large = rival("tfidf", 170, 200, 0.1), rival("frozen", 172, 200, 0.2, seed=1)
    assert choose([small, large], 0.01, 10_000).pick == "frozen"
    large = Rival(large.name, large.marks_N, large.cost.replace(memory_bytes=270_000_000))
    assert choose([small, large], 0.01, 10_000).pick == "tfidf"


def test_the_number_of_answers_decides_what_is_cheap() -> None:
    slow = Cost(training_s=0, thousand_s=10, latency_s=0.01, memory_bytes=1)
    marks_N = np.arange(100) % 7 > 0
    rivals = [
        Rival("asked as it is", marks_N.astype(float), slow),
        Rival("trained", marks_N.astype(float), slow.replace(training_s=50, thousand_s=1)),
    ]
    assert choose(rivals, 0.01, answers=1000).pick == "asked as it is"
    assert choose(rivals, 0.01, answers=100_000).pick == "trained"


def test_bounds_hold_for_all_rows_at_once() -> None:
    rows = behind([rival(str(seed), 80, 100, 1.0, seed) for seed in range(10)])
    assert all(one.tied for one in rows)
    assert all(one.at_least <= one.estimate <= one.at_most for one in rows)


def test_rows_are_compared_where_both_were_tried() -> None:
    draw = np.random.default_rng(3)
    hard_N = np.arange(900) >= 300  # the other deals, in which hardly anybody is right
    even_N = (draw.random(900) < np.where(hard_N, 0.3, 0.9)).astype(float)
    near_N = np.where(draw.random(900) < 0.04, 1 - even_N, even_N)
    cost = Cost(training_s=0, thousand_s=0.1, latency_s=0.01, memory_bytes=1)
    dear = Rival("tuned", np.where(hard_N, np.nan, near_N), cost.replace(thousand_s=20))
    rows = behind([Rival("linear", even_N, cost), dear])
    assert all(row.tied and row.at_most < 0.05 for row in rows)
    worse_N = np.where(draw.random(900) < 0.05, 0.0, even_N)
    all_deals = [Rival("nearest", worse_N, cost), Rival("linear", even_N, cost)]
    first = [Rival(one.name, one.marks_N[:300], cost) for one in all_deals]
    told = [rows[0].at_most - rows[0].at_least for rows in (behind(all_deals), behind(first))]
    assert told[0] < 0.7 * told[1]  # more rows tell more


def test_nothing_and_a_single_row_of_data_are_refused() -> None:
    with pytest.raises(RequestError):
        choose([], 0.01, 1)
    with pytest.raises(RequestError, match="one trial row"):
        behind([rival("a", 1, 1, 1.0), rival("b", 0, 1, 1.0)])


def test_more_rows_are_needed_for_a_smaller_deficit() -> None:
    assert rows_needed(0.01, 0.1, 8) > 3.5 * rows_needed(0.02, 0.1, 8)


def test_the_ladder_fits_the_budget_and_the_dearest_leave_first() -> None:
    costs = {f"row {place}": Costs(whole_s=60.0 + place, steps=180, around_s=2.0) for place in range(9)}
    rich, poor, none = (ladder(costs, budget) for budget in (2000.0, 60.0, 1.0))
    assert rich.sizes() == (9, 3, 1) and rich.shares == pytest.approx((1 / 9, 1 / 3, 1.0))
    assert 0 < len(poor.names) < 9 and "row 8" not in poor.names and poor.shares[0] * 180 >= 15
    spent = sum(
        share * sum(sorted((costs[name].whole_s for name in poor.names), reverse=True)[:size]) + 2.0 * size
        for share, size in zip(poor.shares, poor.sizes(), strict=True)
    )
    assert spent <= 60.0
    assert none.names == none.shares == ()


def test_the_best_go_on() -> None:
    assert survivors({"a": 0.5, "b": 0.9, "c": 0.9, "d": 0.7}, 2) == ("b", "c")
    assert KEEP == 3


def test_the_law_is_found_again() -> None:
    sizes_S = np.array([25, 50, 100, 200, 400, 800])
    law = fit(sizes_S, (0.9 - 1.2 * sizes_S**-0.5)[None, :], np.ones(6), 1.0)
    assert law.at(3200.0) == pytest.approx(0.9 - 1.2 * 3200**-0.5, abs=1e-3)
    assert law.ceiling_B[0] <= 1.0


def test_a_rising_curve_helps_and_a_flat_one_cannot_tell() -> None:
    draw = np.random.default_rng(0)
    hard_N = draw.random(2000)

    def curve(scale: float) -> Curve:
        sizes_S = np.array([50, 100, 200, 400, 800])
        levels = 0.95 - scale * sizes_S**-0.3
        marks = [[hard_N + draw.normal(0, 0.02, 2000) < level for _ in range(5)] for level in levels]
        return Curve(sizes_S, np.array(marks, dtype=float))

    rising, flat = outlook("rising", curve(0.8), 800, 1.0), outlook("flat", curve(0.0), 800, 1.0)
    assert rising.verdict == "helps" and rising.low <= 0.8 * (800**-0.3 - 1600**-0.3) <= rising.high
    assert flat.verdict == "cannot tell" and flat.low <= 0 <= flat.high


def test_subsets_are_nested_and_keep_the_labels() -> None:
    rows = [row(number, f"text {number}", "good" if number % 4 else "bad") for number in range(80)]
    small, large = nested(rows, 20, 3), nested(rows, 40, 3)
    assert {one.id for one in small} < {one.id for one in large}
    assert sum(one.label == "bad" for one in small) == 5
    assert {one.id for one in nested(rows, 20, 4)} != {one.id for one in small}
    assert sizes(800) == (25, 50, 100, 200, 400, 800)
    assert len(sizes(100)) == 5 and sizes(100)[0] >= 24 and len(sizes(30)) == 1


def test_too_short_a_curve_is_refused() -> None:
    with pytest.raises(RequestError, match="cannot be gone on with"):
        Curve(np.array([30, 60]), np.zeros((2, 3, 5)))


def test_who_takes_part_follows_from_the_recipe() -> None:
    recipe = tiny_recipe("base", "rows.csv")  # type: ignore[arg-type]
    found, absent = entrants(recipe, Contest(ranks=(8,)), ("path:/models/tiny", "other"))
    assert [one.name for one in found if one.kind == "tuned"] == [
        "lora-8@tiny", "prompt_tuning@tiny", "lora-8@other", "prompt_tuning@other",
    ]  # fmt: skip
    assert "word_list" in absent and short("path:/models/tiny/") == "tiny"
    listed = recipe.replace(baselines=Baselines(word_list="vader/lexicon"))
    assert "word_list" in {one.name for one in entrants(listed, Contest(), ())[0]}
    only = entrants(recipe, Contest(only=("tfidf",)), ("other",))
    assert [one.name for one in only[0]] == ["tfidf"] and only[1]["tuned"] == "not asked for"


def test_examples_stand_between_the_question_and_the_row() -> None:
    rows = [row(number, f"text {number}", "good" if number % 2 else "bad") for number in range(12)]
    shown = examples(rows, 4)
    assert sorted(str(one.label) for one in shown) == ["bad", "bad", "good", "good"]
    asked = with_examples(rows[0], shown)
    assert asked.id == rows[0].id and asked.messages[-2:] == rows[0].messages[-2:]
    assert [message.role for message in asked.prompt].count("assistant") == 4


def test_optuna_goes_where_scores_are_high_and_the_same_way_again() -> None:
    tried = [
        Tried("a" if rate < 1e-3 else "b", 8, rate, -abs(np.log(rate / 3e-4))) for rate in np.geomspace(6e-5, 4e-3, 12)
    ]
    found = [propose(tried, ("a", "b"), number) for number in range(1, 9)]
    assert found[0] == propose(tried, ("a", "b"), 1)
    assert len({one.name for one in found}) == 8
    assert sum(abs(np.log(float(one.learning_rate or 1) / 3e-4)) < 1.5 for one in found) >= 6
