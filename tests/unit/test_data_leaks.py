"""The leak gate: what leaks is found and goes, what does not leak stays, and the score says what it owed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops.core.dataset import DatasetManifest
from llmops.core.errors import LlmopsError
from llmops.core.findings import Leak, LeakKind, Leaks, Review
from llmops.core.review import LeakGate
from llmops.data.leaks import Spoken, find_leaks, reason
from llmops.data.overlap import Overlap, words_of
from llmops.data.prepare import prepare
from llmops.data.review import REVIEW
from llmops.evals.inflation import inflation
from llmops.pipeline.gate import check_before_training, check_report, inflation_of, leaks_between, told
from llmops.store.files import read_json, read_jsonl
from llmops.store.workspace import Workspace
from tests.unit.sample_values import plan, report, workspace
from tests.unit.test_data_prepare import many, recipe, write

LONG = "the committee met on tuesday and agreed after a long debate to close the old harbour road for repairs"


def said(*texts: str, group: str = "") -> list[Spoken]:
    return [Spoken(f"r{number}", text, (group or text,)) for number, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("train", "heldout", "kind"),
    [
        ("Well, hello there!", "Well,  hello there!", "exact"),
        ("WELL hello, there", "Well, hello there!", "normalised"),
        (f"{LONG} and then everybody went home to a dinner of fish", f"yesterday it was said that {LONG}", "13-gram"),
        ("my sister bought a green bicycle in paris", "my sister bought a red bicycle in paris", "near"),
        ("今天天气很好我们去公园", "今天天气很好我们去海边", "near"),
    ],
)
def test_a_row_that_says_the_same_is_found_by_its_strongest_kind(train: str, heldout: str, kind: str) -> None:
    found = find_leaks(said("nothing like it at all", train), said("something else entirely", heldout), LeakGate())
    assert [(leak.train, leak.heldout, leak.kind) for leak in found.found] == [("r1", "r1", kind)]
    assert found.touched == ("r1",) and found.kinds == {kind: 1}
    assert reason(found.found[0]).startswith("leak: ")


def test_rows_of_one_source_are_a_group_leak_and_others_are_not() -> None:
    train = [Spoken("a", "one thing", ("author ann",)), Spoken("b", "another", ("author bob",))]
    heldout = [Spoken("c", "a third", ("author ann",)), Spoken("d", "a fourth", ("author eve",))]
    found = find_leaks(train, heldout, LeakGate())
    assert [(leak.train, leak.heldout, leak.kind) for leak in found.found] == [("a", "c", "group")]
    assert found.touched == ("c",)


def test_what_differs_in_what_matters_is_no_leak() -> None:
    train = said("I love it", "the weather is fine today in rome", "", "!!!", "?")
    heldout = said("I hate it", "the traffic is awful today in oslo", "...", "!")
    assert find_leaks(train, heldout, LeakGate()).found == ()
    assert find_leaks([], heldout, LeakGate()).found == () == find_leaks(train, [], LeakGate()).found


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdefghijkl"), min_size=5, max_size=9), min_size=1, max_size=12))
def test_the_join_finds_what_comparing_every_pair_finds(rows: list[list[str]]) -> None:
    from math import log1p

    texts = [" ".join(row) for row in rows]
    left, right = texts[::2], texts[1::2]
    sets = [set(words_of(text)) for text in texts]
    rows_of = {word: sum(word in one for one in sets) for one in sets for word in one}
    weight = {word: log1p(len(texts) / count) for word, count in rows_of.items()}

    def alike(one: set[str], two: set[str]) -> float:
        return sum(weight[word] for word in one & two) / sum(weight[word] for word in one | two)

    wanted = {
        (at, there)
        for at, mine in enumerate(sets[::2])
        for there, theirs in enumerate(sets[1::2])
        if min(len(mine), len(theirs)) >= 5 and alike(mine, theirs) >= 0.5 + 1e-6
    }
    found = Overlap(left, right).near(0.5)
    assert wanted <= set(zip(found.left_P.tolist(), found.right_P.tolist(), strict=True))


def leaky() -> list[tuple[str, str]]:
    """Rows of which some say, in other words or another case, what others say."""
    draw = random.Random(4)
    words = [f"word{number}" for number in range(400)]
    rows = [(" ".join(draw.sample(words, 12)), "ab"[number % 2]) for number in range(80)]
    return rows + [(text.upper().replace(" ", ", "), label) for text, label in rows[:30]]


def test_prepare_repairs_the_split_and_says_why_each_row_went(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    at, lines = workspace(tmp_path / "ws"), leaky()
    write(lines)
    bare = recipe().replace(data=recipe().data.replace(steps=()))
    manifest = prepare(bare, at)
    folder = at.folder(DatasetManifest, manifest.id)
    gone = [row for row in read_jsonl(folder / "dropped.jsonl") if row["step"] == "leaks"]
    assert len(gone) > 3 and all("the same words as held-out row" in row["reason"] for row in gone)
    assert manifest.dropped == {"leak": len(gone)}
    assert manifest.rows_train + manifest.rows_heldout + len(gone) == len(lines) == manifest.rows_read
    assert manifest.steps[-1].step == "leaks" and manifest.steps[-1].rows_out == len(lines) - len(gone)
    seen = Review.model_validate(read_json(folder / REVIEW))
    assert len(seen.leaks.found) == len(gone) and seen.repaired
    assert leaks_between(manifest.id, manifest.id, LeakGate(), at).found == ()

    kept = prepare(bare.replace(data=bare.data.replace(leaks=LeakGate(then="report"))), at)
    assert kept.dropped == {} and len(leaks_between(kept.id, kept.id, LeakGate(), at).found) == len(gone)


def test_training_on_a_set_that_was_not_repaired_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines: list[str] = []
    at = workspace(tmp_path / "ws", said=lines)
    write(leaky())
    data = recipe().data.replace(steps=(), leaks=LeakGate(then="report"))
    manifest = prepare(recipe().replace(data=data), at)
    made = plan().replace(dataset=manifest.id)
    with pytest.raises(LlmopsError, match=r"training rows .* say what is said in"):
        check_before_training(made, at)
    wanted = made.replace(recipe=made.recipe.replace(data=made.recipe.data.replace(leaks=LeakGate(then="report"))))
    check_before_training(wanted, at)
    assert any(line.startswith("leak gate:") for line in lines)


def test_a_report_says_what_its_score_owes_to_leaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    at = workspace(tmp_path / "ws")
    write(leaky())
    data = recipe().data.replace(steps=(), leaks=LeakGate(then="report"))
    manifest = prepare(recipe().replace(data=data), at)
    heldout = [row.id for row in at.rows(manifest.id, "heldout")]
    touched = set(leaks_between(manifest.id, manifest.id, LeakGate(), at).touched)
    assert 3 < len(touched) < len(heldout)
    learned_by_heart = report("tuned", [float(row in touched or place % 2) for place, row in enumerate(heldout)])
    answers = tuple(one.replace(row=row) for one, row in zip(learned_by_heart.answers, heldout, strict=True))
    made = learned_by_heart.replace(answers=answers, suite=learned_by_heart.suite.replace(dataset=manifest.id))
    at.put(made)
    found = check_report(made, plan().replace(dataset=manifest.id), at)
    assert found is not None and found == inflation_of(made.id, at)
    assert found.leaked and found.clean and found.inflation
    assert found.leaked.value == 1.0 and found.clean.value < 0.7
    assert found.inflation.low > 0 and found.leaked.n + found.clean.n == len(heldout)
    assert "inflated by +" in told(found)


def test_a_score_without_leaks_or_of_leaks_alone_has_no_inflation() -> None:
    made = report("tuned", [1.0, 0.0, 1.0])
    assert inflation(made, set(), "ds-1").inflation is None
    everything = inflation(made, {"r0", "r1", "r2"}, "ds-1")
    assert everything.inflation is None and "says nothing" in told(everything)


def test_prepare_leaves_a_clean_set_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(many())
    at = Workspace.find(tmp_path / "ws")
    assert prepare(recipe().replace(data=recipe().data.replace(steps=())), at).rows_dropped == 0


def test_near_matches_go_unless_there_are_so_many_that_they_are_how_the_rows_are_made() -> None:
    def leaks(near: int) -> Leaks:
        kinds: list[LeakKind] = ["exact", *["near"] * near]
        found = tuple(Leak(train=f"t{n}", heldout="h", kind=kind, alike=0.9) for n, kind in enumerate(kinds))
        return Leaks(against="ds-1", rows_train=100, rows_heldout=20, found=found, touched=("h",))

    assert len(leaks(30).to_repair(0.3)) == 31
    assert [leak.kind for leak in leaks(31).to_repair(0.3)] == ["exact"]
    assert len(leaks(31).to_repair(1.0)) == 32
