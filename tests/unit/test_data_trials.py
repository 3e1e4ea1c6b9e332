"""The rows that a tournament is tried on stand for the held-out rows: in their mix, with a warning where few do."""

from __future__ import annotations

from pathlib import Path

from llmops.core.dataset import DatasetManifest
from llmops.core.proof import CheckResult
from llmops.core.review import LeakGate
from llmops.core.sources import Data, Labelled, Source
from llmops.data import prove_trials
from llmops.data.part import trial_set, trial_sets, tried_on
from llmops.data.prepare import prepare
from llmops.data.shares import apart, differ, in_shares, shares, surplus
from llmops.store.workspace import Workspace
from tests.unit.sample_values import row
from tests.unit.tiny_life import made_up_rows, tiny_recipe, write_csv


def two_domains(folder: Path, at: Workspace, near: int, far: int) -> DatasetManifest:
    """So many training rows of each source; the held-out rows are far ones."""
    sources = []
    for place, (name, train, heldout) in enumerate((("near", near, 1), ("far", far, 90))):
        csv = write_csv(folder / f"{name}.csv", made_up_rows(600, seed=place))
        shape = Labelled()
        sources.append(Source(from_=f"path:{csv}", shape=shape, train_rows=train, heldout_rows=heldout))
    recipe = tiny_recipe(folder / "base", folder / "near.csv")
    return prepare(recipe.replace(data=Data(sources=tuple(sources), heldout_share=0.3, steps=())), at)


def sides(made: DatasetManifest, at: Workspace) -> tuple[DatasetManifest, dict[str, float], str]:
    """(the trial set, {source: its share of the rows to try on}, what is said of it)."""
    trial = trial_set(made, 0.35, None, LeakGate(then="report"), at)
    rows = at.rows(trial.id, "heldout")
    names = {one.source.rpartition("/")[2]: 0.0 for one in rows}
    found = {name: sum(one.source.endswith(name) for one in rows) / len(rows) for name in names}
    return trial, found, tried_on(made, [trial], at)


def test_rows_of_the_held_out_source_decide_and_the_others_are_learned_from(
    tmp_path: Path, workspace: Workspace
) -> None:
    made = two_domains(tmp_path, workspace, near=200, far=300)
    trial, found, told = sides(made, workspace)
    assert found["far.csv"] > 0.98 and trial.rows_heldout > 90 and trial.rows_read == made.rows_train
    assert "drawn in the mix of the held-out rows" in told and "far.csv is 99% of the held-out rows and 6" in told


def test_few_rows_like_the_held_out_ones_are_named(tmp_path: Path, workspace: Workspace) -> None:
    trial, found, told = sides(two_domains(tmp_path, workspace, near=200, far=40), workspace)
    assert found == {"far.csv": 1.0} and trial.rows_heldout < 20
    assert "So few tell only large differences apart: bring more of" in told


def test_where_hardly_any_are_like_them_all_kinds_decide_and_it_is_said(tmp_path: Path, workspace: Workspace) -> None:
    trial, found, told = sides(two_domains(tmp_path, workspace, near=200, far=6), workspace)
    assert found["near.csv"] > 0.9 and trial.rows_heldout > 60
    assert "they are not like the held-out rows" in told and "Bring more of" in told


def test_one_mix_on_both_sides_is_dealt_as_before(tmp_path: Path, workspace: Workspace) -> None:
    recipe = tiny_recipe(tmp_path / "base", write_csv(tmp_path / "rows.csv", made_up_rows(300)))
    made = prepare(recipe, workspace)
    trial = trial_set(made, 0.35, None, LeakGate(), workspace)
    assert trial.dropped == {} and tried_on(made, [trial], workspace).endswith("mixed as the held-out rows are.")


def test_a_mix_is_of_sources_and_labels() -> None:
    rows = [row(place, f"text {place}", "good" if place % 4 else "bad") for place in range(80)]
    mix = shares([*rows, rows[0].replace(id="replayed", label=None)], rated=False)
    assert mix == {("s", "bad"): 0.25, ("s", "good"): 0.75} and shares(rows, rated=True) == {("s", ""): 1.0}
    half = {("s", "bad"): 0.5, ("s", "good"): 0.5}
    assert apart(mix, half) == 0.25 and differ(mix, half, 100) and not differ(mix, half, 40)
    kept = in_shares(rows, half, rated=False)
    assert len(kept) == 40 and shares(kept, rated=False) == half
    assert surplus(half, mix) == ("bad of s", 0.5, 0.25)
    assert in_shares(rows, {("elsewhere", "bad"): 1.0}, rated=False) == []


def test_the_proof_passes_the_rule_and_finds_out_the_plain_deal() -> None:
    checks: list[CheckResult] = [prove_trials.mixed("ci"), prove_trials.mixed("ci", prove_trials.plain)]
    assert [check.passed for check in checks] == [True, False]


def test_deals_try_no_group_twice_and_keep_both_labels_on_both_sides(tmp_path: Path, workspace: Workspace) -> None:
    recipe = tiny_recipe(tmp_path / "base", write_csv(tmp_path / "rows.csv", made_up_rows(300)))
    made = prepare(recipe, workspace)
    deals = trial_sets(made, 0.35, None, LeakGate(), workspace, deals=9)
    tried = [{one.group for one in workspace.rows(deal.id, "heldout")} for deal in deals]
    assert len(deals) == 3 and sum(len(some) for some in tried) == len(set.union(*tried)) == made.rows_train
    assert deals[0] == trial_set(made, 0.35, None, LeakGate(), workspace)
    for deal in deals:
        learned = workspace.rows(deal.id, "train")
        assert {one.label for one in learned} == {"good", "bad"} and len(learned) > 0.6 * made.rows_train
    assert "in 3 deals" in tried_on(made, deals, workspace)
