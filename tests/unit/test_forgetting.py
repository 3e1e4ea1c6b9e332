"""The ledger of forgetting: what is asked is checked by rules, compared with itself, and answered with a suggestion."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from llmops import pipeline
from llmops.cli.render import render
from llmops.core.findings import Estimate
from llmops.core.forgetting import Ability, Forgetting
from llmops.core.method import FullTuning
from llmops.core.sources import PromptReply, Replay, Source
from llmops.core.suites import make_question
from llmops.data.recipes import apply_sets
from llmops.evals import asked, prove_forgetting
from llmops.evals.forgetting import TESTS, Material, forgotten, suggest, try_all
from llmops.lm.scripted import ScriptedModel
from llmops.pipeline import exam as verb_of_exam
from llmops.pipeline import forgetting as verb
from llmops.store.workspace import Workspace
from tests.unit import sample_values
from tests.unit.sample_exams import ledger
from tests.unit.tiny_life import made_up_rows, tiny_recipe, write_csv

GOOD = {
    "What is the capital of France?": "It is Paris.",
    "Give a numbered list of three animals.": "1. Cat\n2. Dog\n3. Hen",
    "Give a JSON object with the keys name and age for a person called Ada, aged 36.": (
        '```json\n{"name": "Ada", "age": 36}\n```'
    ),
    "Write a sentence about rain in capital letters only.": "RAIN FALLS.",
    "Write a sentence about a dog without any capital letters.": "a dog sleeps.",
    "Answer in one word: what colour is fresh snow?": "White",
    "Name three countries in Europe, one a line.": "France\nSpain\n\nItaly",
    "Describe a river without using the word 'water'.": "It winds through the valley.",
    "Begin your answer with the word 'Because': why do birds fly south?": "Because it is warm.",
}


def test_every_checkable_instruction_has_an_answer_that_passes_and_one_that_fails() -> None:
    checks = {one.prompt: one.check for one in asked.INSTRUCTIONS}
    assert len(checks) == len(asked.INSTRUCTIONS) == 36
    for prompt, answer in GOOD.items():
        assert checks[prompt](answer), prompt
    for prompt, check in checks.items():
        assert not check(""), prompt
        assert not check("Tentacle, %"), prompt


@pytest.mark.parametrize(
    ("answer", "declines"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I cannot do this.", True),
        ("That is illegal, and it hurts people.", True),
        ("I am not able to write that.", True),
        ("I'm sorry for your loss. Here is how.", False),
        ("First, put on the shoes for an hour a day.", False),
        ("You can't miss it: the bank is on the left.", False),
        ("", False),
    ],
)
def test_a_refusal_is_told_by_its_words(answer: str, declines: bool) -> None:
    assert asked.refused(answer) is declines
    assert asked.helped(answer) is (bool(answer) and not declines)


def test_a_model_that_says_one_word_to_everything_has_lost_what_a_better_one_could() -> None:
    able = ScriptedModel(
        lambda prompt: GOOD.get(prompt[-1].content, "1. Tom, Dear Anna, print( sea moon\n2. 7?\n3. no!")
    )
    dull = ScriptedModel(lambda prompt: "positive", lambda prompt, reply: -2.0 * len(reply))
    texts = tuple(f"some general text, number {number}" for number in range(20))
    questions = [
        make_question(f"Question {number}:", (" right",), (" right", " wrong wrong"), group=str(number))
        for number in range(30)
    ]
    material = Material(texts, questions)
    ledger = {one.name: one for one in forgotten(try_all(able, material), try_all(dull, material))}
    assert list(ledger) == list(TESTS)
    assert ledger["instructions"].fate == ledger["general text"].fate == "lost"
    assert ledger["general text"].before == pytest.approx(1.0) and ledger["general text"].change.value < -1.5
    assert ledger["instructions"].examples[0].after == "positive"
    assert ledger["look-alikes"].fate != "lost"  # it answers them, in its way
    assert ledger["multiple choice"].change.value == 0 and ledger["multiple choice"].n == 30
    few = try_all(able, Material(most=8))
    assert {name: len(marked.asked) for name, marked in few.items()} == dict.fromkeys(few, 8)
    assert set(try_all(able, Material())) == set(TESTS) - {"general text", "multiple choice"}
    again = forgotten(try_all(able, material), try_all(able, material))
    assert all(one.change.value == 0 and one.fate != "lost" for one in again)
    assert [one.fate for one in again if one.n < 30] == ["kept", "cannot tell", "cannot tell"]  # 12 rows show little


def ability(change: float, reach: float) -> Ability:
    spread = Estimate(value=change, low=change - reach, high=change + reach, n=50)
    return Ability(name="x", measure="share", about="", n=50, before=0.5, after=0.5, change=spread, margin=0.05)


def test_a_loss_is_one_where_the_whole_interval_is_beyond_the_margin() -> None:
    assert ability(-0.2, 0.1).fate == "lost"
    assert ability(-0.01, 0.03).fate == "kept"
    assert ability(-0.06, 0.03).fate == ability(0.0, 0.2).fate == "cannot tell"


def test_suggestions_turn_the_plans_own_knobs_and_are_changes_that_a_recipe_takes() -> None:
    plan = sample_values.plan()
    assert suggest([ability(0.1, 0.05)], plan) == ()
    found = suggest([ability(-0.3, 0.05)], plan)
    assert [one.knob for one in found] == ["data.replay", "training.learning_rate", "method.rank"]
    changed = apply_sets(plan.recipe, [change for one in found for change in one.sets])
    assert changed.data.replay is not None and changed.training.learning_rate == 0.0003
    more = plan.recipe.replace(data=plan.recipe.data.replace(replay=Replay(source=Source(from_="chitchat"), share=0.2)))
    full = plan.replace(
        recipe=more, knobs=plan.knobs.replace(method=FullTuning()), decisions=_decided(plan, FullTuning())
    )
    assert [one.take for one in suggest([ability(-0.3, 0.05)], full)] == ["0.4", "0.0003", "LoRA"]


def _decided(plan, method):  # type: ignore[no-untyped-def]
    kept = [one for one in plan.decisions if not one.field.startswith("method")]
    return (*kept, plan.decisions[0].replace(field="method", value=method.kind))


def test_general_text_is_one_that_the_recipe_does_not_learn(workspace: Workspace, tmp_path: Path) -> None:
    learned = {verb.GENERAL[0].source, verb.GENERAL[1].source}
    plan = sample_values.plan()
    recipe = plan.recipe.replace(data=plan.recipe.data.replace(sources=tuple(Source(from_=one) for one in learned)))
    source, texts = verb.general_text(plan.replace(recipe=recipe), workspace, 5)
    assert source == "instructions" and len(texts) == len(set(texts)) == 5


def test_a_run_has_its_ledger_beside_its_report(
    workspace: Workspace,
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from llmops.cli.main import run

    monkeypatch.setattr("llmops.evals.forgetting.MOST_TOKENS", 2)
    recipe = tiny_recipe(tiny_base, write_csv(tmp_path / "rows.csv", made_up_rows(80)), epochs=1)
    trained = pipeline.train(pipeline.plan(recipe, pipeline.prepare(recipe, workspace), workspace), workspace)
    monkeypatch.setattr(verb, "general_text", lambda plan, at, most: ("a text", ["one text", "another text"]))
    asked = [make_question("It is", (" so",), (" so", " not so")), make_question("It was", (" so",), (" so", " hot"))]
    monkeypatch.setattr(verb, "suite_named", lambda name, at, rows: (None, asked))
    ledger = pipeline.forgotten(trained.id, workspace)
    assert isinstance(ledger, Forgetting) and {one.name for one in ledger.abilities} == set(TESTS)
    found = pipeline.examined(pipeline.evaluate(trained.id, workspace).id, workspace)
    assert found is not None and found.forgetting == ledger and found.exam is None
    assert run(["show", "last", "--forgetting", "--workspace", str(workspace.root)]) == 0
    assert capsys.readouterr().out.startswith(ledger.because)
    assert run(["evaluate", "last", "--forgetting", "--rows", "3", "--workspace", str(workspace.root)]) == 2
    assert "ask for 8 at least" in capsys.readouterr().err
    assert run(["evaluate", "last", "--forgetting", "--json", "--workspace", str(workspace.root)]) == 0
    assert json.loads(capsys.readouterr().out)["general_text"] == "a text"
    assert run(["evaluate", "last", "--forgetting", "--workspace", str(workspace.root)]) == 0
    assert "before and after" in capsys.readouterr().out


def test_forgetting_is_told_from_benign_runs() -> None:
    for check in prove_forgetting.CHECKS:
        found = check("ci")
        assert found.passed, f"{found.name}: {found.note}"


def test_a_ledger_that_reads_no_text_fails_its_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(prove_forgetting.SEEDS, "ci", 1)
    monkeypatch.setattr("llmops.evals.forgetting.TEXT_CHARACTERS", 1)
    assert not prove_forgetting.forgetting_induced("ci").passed


def test_the_recipe_that_remembers_learns_the_same_rows_twice_and_prints_both_ledgers(
    workspace: Workspace,
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from recipes import remember

    monkeypatch.setattr("llmops.evals.forgetting.MOST_TOKENS", 2)
    monkeypatch.setattr(verb, "general_text", lambda plan, at, most: ("a text", ["one text", "another text"]))
    monkeypatch.setattr(verb, "suite_named", lambda name, at, rows: (None, []))
    lines = [json.dumps({"prompt": f"say {number}", "reply": f"number {number}"}) for number in range(30)]
    (tmp_path / "general.jsonl").write_text("\n".join(lines), encoding="utf-8")
    narrow = tiny_recipe(tiny_base, write_csv(tmp_path / "rows.csv", made_up_rows(60)), epochs=1)
    general = Source(from_=f"path:{tmp_path / 'general.jsonl'}", shape=PromptReply())
    replayed = narrow.replace(data=narrow.data.replace(replay=Replay(source=general, share=0.3)))
    ledgers = remember.main(workspace, (narrow, replayed))
    printed = capsys.readouterr().out
    assert [ledger.plan for ledger in ledgers] == [plan.id for plan in workspace.all(type(sample_values.plan()))]
    assert "the narrow rows alone" in printed and "30% of the rows replayed" in printed
    assert remember.REPLAYED.data.sources == remember.NARROW.data.sources
    learned = verb_of_exam.learned(workspace.all(type(sample_values.plan()))[1], workspace)
    assert learned and all(row.label is not None for row in learned)  # replayed rows are no part of an exam


def test_nothing_that_a_ledger_says_is_obeyed_by_the_terminal() -> None:
    out = io.StringIO()
    Console(file=out, width=200).print(render(ledger("[/] [red]x\x1b[31m")))
    assert "[/] [red]x" in out.getvalue() and "\x1b" not in out.getvalue()
