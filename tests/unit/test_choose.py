"""A whole tournament on a tiny base: everybody plays, the cheapest that is not worse wins, nothing is done twice."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from llmops.cli.main import run
from llmops.core.choice import Choice, Contest, Cost, Entry
from llmops.core.context import Surroundings
from llmops.core.dataset import DatasetManifest
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.plan import Wishes
from llmops.core.recipe import Recipe
from llmops.core.report import EvalReport
from llmops.core.sources import Data, Rated, Source
from llmops.core.tasks import Rate, Reply
from llmops.data.part import trial_sets
from llmops.experiments.choose import Rival
from llmops.pipeline import choose, forecast, register, tuning
from llmops.pipeline.arena import Arena
from llmops.pipeline.choose import rivals_of
from llmops.pipeline.notes import Notes
from llmops.pipeline.playoff import play_off
from llmops.store.workspace import Workspace
from tests.unit.tiny_life import GOOD, made_up_rows, tiny_recipe, write_csv

choosing = sys.modules[rivals_of.__module__]  # the package has a verb of that name
CONTEST = Contest(budget_s=600, ranks=(2,), shots=2)
Held = tuple[Recipe, Workspace, Choice]


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Held:
    folder = tmp_path_factory.mktemp("choose")
    recipe = tiny_recipe(tiny_base, write_csv(folder / "rows.csv", made_up_rows(240)), epochs=0.5)
    said: list[str] = []
    at = Workspace.find(folder / "workspace", Surroundings(say=said.append), environ={})
    choice = choose(recipe, at, CONTEST.replace(bases=(recipe.base,), searches=1))
    assert sum("80 % power" in line for line in said) == 1  # once, however many plans there are
    return recipe, at, choice


def folder_of(at: Workspace, choice: Choice) -> Path:
    return at.root / "choices" / choice.id


def test_every_kind_plays_and_the_linear_row_wins(held: Held) -> None:
    _, _, choice = held
    kinds = [entry.entrant.kind for entry in choice.entries]
    assert kinds[:6] == ["majority", "tfidf", "frozen", "nearest", "zero_shot", "few_shot"]
    assert kinds[6:] == ["tuned"] * 3
    assert [entry.entrant.name.partition("@")[0] for entry in choice.entries[6:]] == [
        "lora-2", "prompt_tuning", "search-1",
    ]  # fmt: skip
    assert choice.absent == {"word_list": "the recipe names none (baselines.word_list)"}
    assert choice.verdict.pick == "tfidf" and choice.entry("tfidf").heldout is not None
    assert choice.then.startswith("llmops register rp-")
    assert "in 3 deals" in choice.tried_on and choice.tried_on.endswith(", mixed as the held-out rows are.")


def test_every_row_says_what_it_costs(held: Held) -> None:
    for entry in held[2].entries:
        assert entry.cost.thousand_s > 0 and entry.cost.latency_s > 0 and entry.cost.memory_bytes > 0
        assert entry.cost.training_s > 0
    costs = {entry.entrant.kind: entry.cost for entry in held[2].entries}
    assert costs["tuned"].memory_bytes > costs["zero_shot"].memory_bytes > costs["tfidf"].memory_bytes


def test_held_out_rows_choose_nothing(held: Held) -> None:
    recipe, at, choice = held
    learned, tried = at.rows(choice.trial, "train"), at.rows(choice.trial, "heldout")
    known = {row.id for row in at.rows(choice.dataset, "train")}
    assert {row.id for row in (*learned, *tried)} <= known
    assert not {row.id for row in learned} & {row.id for row in tried}
    for entry in choice.entries:
        assert at.get(EvalReport, entry.report).suite.dataset == choice.trial
        if entry.heldout_report:
            assert at.get(EvalReport, entry.heldout_report).suite.dataset == choice.dataset
    assert at.get(DatasetManifest, recipe.name).id == choice.dataset  # the name still means the recipe's own rows


def test_asked_again_nothing_is_done_again(held: Held) -> None:
    recipe, at, choice = held
    assert choose(recipe, at, choice.contest) == choice


def test_an_interrupted_tournament_goes_on(held: Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, at, choice = held
    copy = Workspace.find(tmp_path / "workspace", environ={})
    shutil.copytree(at.root, copy.root, dirs_exist_ok=True)
    (folder_of(copy, choice) / "choice.json").unlink()
    last = next(entry for entry in reversed(choice.entries) if entry.run)
    (folder_of(copy, choice) / "entries" / f"{last.entrant.name}.{last.rung}.json").unlink()

    def no_training(*_: object) -> None:
        raise AssertionError("a finished run is not trained again")

    monkeypatch.setattr("llmops.training.train.train", no_training)
    again = choose(recipe, copy, choice.contest)
    assert [one.entrant.name for one in again.entries] == [one.entrant.name for one in choice.entries]
    assert again.entry(last.entrant.name).run == last.run
    assert again.verdict.pick == choice.verdict.pick


def test_a_training_that_fails_costs_only_its_row(held: Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = held[0]

    def fails(*_: object) -> None:
        raise LlmopsError("loss is not finite at step 2", "lower the rate")

    monkeypatch.setattr(tuning, "train", fails)
    contest = CONTEST.replace(bases=(recipe.base,), only=("majority", "tfidf", "tuned"))
    choice = choose(recipe, Workspace.find(tmp_path / "w", environ={}), contest)
    assert [entry.entrant.kind for entry in choice.entries] == ["majority", "tfidf"]
    assert sum("not finite" in why for why in choice.absent.values()) == 2


def test_a_small_budget_leaves_the_tuned_rows_out_and_says_so(held: Held, tmp_path: Path) -> None:
    contest = CONTEST.replace(budget_s=0.2, bases=(held[0].base,), only=("majority", "tfidf", "tuned"))
    choice = choose(held[0], Workspace.find(tmp_path / "w", environ={}), contest)
    assert [entry.entrant.kind for entry in choice.entries] == ["majority", "tfidf"]
    assert sum("budget" in why for why in choice.absent.values()) == 2


def test_the_winner_can_be_registered(held: Held) -> None:
    _, at, choice = held
    assert choice.final is not None and choice.final.n == len(at.rows(choice.dataset, "heldout"))
    version = register(choice.then.rpartition(" ")[2], at)
    assert version.kind == "tfidf" and version.name == choice.recipe.name


def test_tournaments_held_before_the_rows_that_decided_were_named_still_load(held: Held) -> None:
    old = held[2].to_json()
    del old["tried_on"]
    assert Choice.model_validate(old).verdict == held[2].verdict


def test_the_page_shows_every_row_and_runs_nothing(held: Held) -> None:
    _, at, choice = held
    page = (folder_of(at, choice) / "choice.html").read_text(encoding="utf-8")
    assert all(entry.entrant.name in page for entry in choice.entries)
    assert page.count("<svg") == 4 and "<script" not in page and "http" not in page.replace("http-equiv", "")


def test_the_page_fits_a_window_of_1100_pixels(held: Held, chromium: str) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 800})
        page.goto((folder_of(held[1], held[2]) / "choice.html").as_uri())
        widths = page.evaluate(
            "[document.body, document.querySelector('.wide')].map(e => [e.scrollWidth, e.clientWidth])"
        )
        page.add_style_tag(content="th, td { white-space: nowrap !important; padding: 0 3em !important; }")
        cramped = page.evaluate("(e => e.scrollWidth > e.clientWidth)(document.querySelector('.wide'))")
        browser.close()
    assert all(content <= window for content, window in widths) and cramped


def test_ratings_have_a_tournament_too(tmp_path: Path, tiny_base: Path) -> None:
    rows = [(text, "1.5" if label == "good" else "-1.5", place) for text, label, place in made_up_rows(160)]
    csv = write_csv(tmp_path / "rows.csv", rows)
    source = Source(from_=f"path:{csv}", shape=Rated(text="text", number="label"))
    recipe = Recipe(
        name="rating", base=f"path:{tiny_base}", data=Data(sources=(source,)), task=Rate(question="How good, -2 to 2?")
    )
    at = Workspace.find(tmp_path / "w", environ={})
    kinds = ("majority", "tfidf", "frozen", "nearest", "few_shot")
    choice = choose(recipe, at, Contest(bases=(recipe.base,), only=kinds, shots=2))
    assert {entry.trial.metric for entry in choice.entries} == {"absolute_error"}
    assert choice.verdict.pick == "tfidf" and choice.verdict.margin == pytest.approx(0.03)
    curves = forecast(recipe, at, more=50)
    assert [one.row.partition("@")[0] for one in curves.outlooks] == ["tfidf", "frozen"]
    assert GOOD[0] in at.rows(choice.dataset, "train")[0].text or curves.rows > 50


def test_the_command_line_shows_the_table_and_the_same_as_json(held: Held, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, at, choice = held
    assert run(["show", choice.id, "--workspace", str(at.root)]) == 0
    shown = capsys.readouterr().out
    assert "picked: tfidf" in shown and "behind" in shown and "training rows decided" in shown
    assert run(["show", choice.id, "--workspace", str(at.root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"]["pick"] == "tfidf"
    assert run(["list", "choices", "--workspace", str(at.root)]) == 0
    assert choice.id in capsys.readouterr().out
    assert run(["choose", recipe.name, "--only", "oracle", "--workspace", str(at.root)]) == 2
    assert "'oracle'" in capsys.readouterr().err


def test_a_reply_has_no_linear_row(held: Held) -> None:
    recipe = held[0].replace(task=Reply(), data=Data(sources=(Source(from_="chitchat"),)))
    with pytest.raises(RequestError, match="no linear row"):
        choose(recipe, held[1])


def test_rows_in_doubt_are_tried_on_the_other_deals_while_the_budget_lasts(held: Held, tmp_path: Path) -> None:
    recipe, at, choice = held
    shutil.copytree(at.root, tmp_path / "w")
    there = Workspace.find(tmp_path / "w", Surroundings(), environ={})
    manifest = there.get(DatasetManifest, choice.dataset)
    deals = trial_sets(manifest, choice.contest.trial_share, None, recipe.data.leaks, there, choice.contest.deals)
    arena = Arena(recipe, choice.contest, manifest, deals[0], there, Wishes(), (recipe.base,), tuple(deals[1:]))
    notes = Notes(folder_of(there, choice))
    names = ("lora-2@tiny", "zero_shot@tiny", "tfidf")
    tied = [next(e for e in choice.entries if e.entrant.name.partition("@")[0] == n.partition("@")[0]) for n in names]

    def doubt(entries: Sequence[Entry]) -> tuple[Entry, ...]:
        return tuple(entries)

    runs = len(there.run_ids())
    assert play_off(tied, arena, notes, doubt, left_s=0) == tied  # the budget is spent
    assert play_off(tied, arena, notes, lambda entries: (), left_s=600) == tied  # the case is clear
    lora, zero, tfidf = play_off(tied, arena, notes, doubt, left_s=600)
    assert tfidf == tied[2] and len(tfidf.more) == len(zero.more) == len(lora.more) == len(deals) - 1
    for entry in (lora, zero):
        suites = [there.get(EvalReport, report).suite.dataset for report in (entry.report, *entry.more)]
        assert suites == [deal.id for deal in deals]
    assert len(there.run_ids()) == runs + len(deals) - 1
    again = play_off(tied, arena, notes, doubt, left_s=600)  # broken off and asked again: nothing is trained twice
    assert again[0].more == lora.more and len(there.run_ids()) == runs + len(deals) - 1
    marks = rivals_of([lora, tfidf], there)
    assert all(len(one.marks_N) == len(marks[0].marks_N) and not np.isnan(one.marks_N).any() for one in marks)


@pytest.mark.parametrize(("rows", "margin", "doubtful"), [(60, 0.01, True), (6000, 0.01, False), (6000, 0.2, False)])
def test_a_cheap_pick_is_in_doubt_where_it_is_tied_and_not_surely_within_the_margin(
    held: Held, monkeypatch: pytest.MonkeyPatch, rows: int, margin: float, doubtful: bool
) -> None:
    recipe, at, choice = held
    entries = [choice.entry("tfidf"), next(entry for entry in choice.entries if entry.run)]
    place = np.arange(rows) % 20  # of twenty rows two are right when trained alone, one is right when cheap alone
    marks = [(place > 3).astype(float), ((place > 1) & (place != 19)).astype(float)]
    costs = [Cost(training_s=s, thousand_s=s, latency_s=0.001, memory_bytes=1) for s in (1, 100)]
    rivals = [Rival(one.entrant.name, *seen) for one, *seen in zip(entries, marks, costs, strict=True)]
    monkeypatch.setattr(choosing, "rivals_of", lambda *_: rivals)
    manifest, trial = (at.get(DatasetManifest, name) for name in (choice.dataset, choice.trial))
    arena = Arena(recipe, choice.contest.replace(margin=margin), manifest, trial, at, Wishes(), (recipe.base,))
    found = choosing._in_doubt(entries, arena)
    assert found == ((entries[1], entries[0]) if doubtful else ())
