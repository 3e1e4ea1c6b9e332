"""The exam: what was understood carries over, what was memorised is recited, and each check finds its planted fault."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from llmops import pipeline
from llmops.core.canaries import SOURCE, SPACE_BITS, Canaries
from llmops.core.dataset import DatasetManifest, Message, Row
from llmops.core.errors import RequestError
from llmops.core.exam import Exam
from llmops.core.findings import Estimate
from llmops.core.proof import CheckResult
from llmops.core.recipe import Recipe
from llmops.core.report import EvalReport
from llmops.core.sources import Data, PromptReply, Source
from llmops.core.tasks import Classify, Continue, Reply
from llmops.data.canaries import canary_rows
from llmops.evals import paired, prove_exam, prove_paired
from llmops.evals.exam import examine as door
from llmops.evals.exam.canaries import exposure_bits
from llmops.evals.exam.twins import twins
from llmops.evals.prove_learner import copy_of, new_learner, talk, teach
from llmops.lm.readings import Reading, read_closely
from llmops.store.files import write_json
from llmops.store.workspace import Workspace
from tests.unit.tiny_life import made_up_rows, tiny_recipe, write_csv

TONE = Classify(question="Good or bad?", labels=("negative", "positive"))


def row(text: str, reply: str, label: str | None = None) -> Row:
    messages = (Message(role="user", content=text), Message(role="assistant", content=reply))
    return Row(id=text[:16], messages=messages, text=text, label=label, group=text, source="s", line=1)


# Close reading


def test_a_row_is_recited_exactly_where_greedy_decoding_writes_it() -> None:
    import torch

    said = ["the day is near the lake . a boat takes the lamp", "a mill finds the barn and the gate is to the yard"]
    learner = new_learner(0)
    teach(learner, [talk(number, f"a {text}", text) for number, text in enumerate(said)], 25, 0.004, 0)
    rows = [talk(9, "a the day", said[0]), talk(10, "a nest", said[1]), talk(11, "the cup", "the cup wants a hat . a")]
    examples = [learner.renderer.row(one) for one in rows]
    readings = read_closely(learner, examples)
    scored = learner.reply_logprobs([(one.prompt, one.reply) for one in rows])
    for example, reading, (nats, tokens) in zip(examples, readings, scored, strict=True):
        assert len(reading.ids) == tokens and -reading.nats == pytest.approx(nats, abs=1e-3)
        for prefix in (0, 3, 6):
            start = torch.tensor([example.ids[: example.start + prefix]])
            rest = example.ids[example.start + prefix :]
            with torch.inference_mode():
                out = learner.weights.generate(
                    input_ids=start,
                    attention_mask=torch.ones_like(start),
                    max_new_tokens=len(rest),
                    do_sample=False,
                    eos_token_id=learner.renderer.end_id,
                    pad_token_id=learner.renderer.end_id,
                )[0, start.shape[1] :].tolist()
            same = [one == other for one, other in zip(out, rest, strict=False)]
            assert reading.recited(prefix) == (same.index(False) if False in same else len(rest))


def test_the_longest_run_is_found_wherever_it_begins() -> None:
    reading = Reading([1] * 7, [0.0] * 7, [True, False, True, True, True, False, True])
    assert reading.longest_run() == (2, 3)
    assert Reading([], [], []).longest_run() == (0, 0)


# Twins


def test_twins_change_what_must_not_matter_and_say_what_must() -> None:
    rows = [
        row("The film was great and the kids loved it", "positive", "positive"),
        row("Peter met Mary in 1987", "positive", "positive"),
    ]
    made = {twin.kind: twin for twin in reversed(twins(rows, TONE, 9))}
    assert made["paraphrase"].row.text == "The movie was great and the children loved it"
    assert not made["paraphrase"].flips and made["paraphrase"].row.label == "positive"
    assert "Peter" not in made["name"].row.text and "Mary" not in made["name"].row.text
    assert made["number"].row.text.startswith("Peter met Mary in 198") and made["number"].row.text[-1] != "7"
    assert made["negation"].row.prompt[-1].content == "The film was not great and the kids loved it"
    assert made["negation"].flips and made["negation"].row.label == made["negation"].row.reply == "negative"
    assert twins(rows, TONE, 9) == twins(rows, TONE, 9)


def test_a_name_or_a_number_that_the_answer_repeats_changes_there_too() -> None:
    (name,) = twins([row("I am Peter. Who am I?", "You are Peter.")], Reply(), 9)
    (number,) = twins([row("I have 12 hens.", "You have 12 hens.")], Reply(), 9)
    assert name.kind == "name" and name.flips and name.row.reply.split()[-1] == name.row.text.split()[2]
    assert number.kind == "number" and number.flips
    assert number.row.text.split()[2] == number.row.reply.split()[2] != "12"


def test_options_change_places_and_the_right_letter_goes_with_its_option() -> None:
    (twin,) = twins([row("Which is hot?\nA) ice\nB) fire\nC) snow", "B) fire")], Reply(), 9)
    assert twin.kind == "option order" and twin.row.text == "Which is hot?\nA) fire\nB) snow\nC) ice"
    assert twin.row.reply == "A) fire" and twin.flips


@pytest.mark.parametrize(
    ("text", "reply", "task"),
    [
        ("What is 2 plus 3?", "5", Reply()),  # the answer is worked out
        ("The film isn't good", "x", Reply()),
        ("It is not bad", "positive", TONE),  # negated already
        ("It is long but it was good", "positive", TONE),  # two statements
        ("The match is over", "sport", Classify(question="Topic?", labels=("sport", "business"))),  # no opposites
        ("Plan B) is fine", "yes", Reply()),  # no options
    ],
)
def test_where_a_rule_would_have_to_guess_there_is_no_twin(text: str, reply: str, task: Classify | Reply) -> None:
    label = reply if isinstance(task, Classify) else None
    assert [twin.kind for twin in twins([row(text, reply, label)], task, 9)] in ([], ["paraphrase"])


# Canaries


def test_canaries_are_planted_as_often_as_asked_and_every_row_is_accounted_for(tmp_path: Path) -> None:
    lines = [json.dumps({"prompt": f"question {number}", "reply": f"answer {number}"}) for number in range(60)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    source = Source(from_=f"path:{tmp_path / 'rows.jsonl'}", shape=PromptReply())
    plain = Recipe(name="planted", data=Data(sources=(source,)), task=Reply())
    assert "canaries" not in plain.to_json()["data"]  # so that older recipes keep their ids
    canaries = Canaries(repeats=(1, 4), each=3)
    at = Workspace.find(tmp_path / "ws", environ={})
    manifest = pipeline.prepare(plain.replace(data=plain.data.replace(canaries=canaries)), at)
    planted = [one for one in at.rows(manifest.id, "train") if one.source == SOURCE]
    assert len(planted) == manifest.rows_made == 3 * (1 + 4) and len({one.id for one in planted}) == 15
    assert manifest.steps[-1].step == "canaries"
    assert not [one for one in at.rows(manifest.id, "heldout") if one.source == SOURCE]
    assert isinstance(at.get(DatasetManifest, manifest.id), DatasetManifest)
    assert [one.text for one in canary_rows(canaries, Continue())][:2] == [text for text, _ in canaries.planted()][:2]
    with pytest.raises(ValueError, match="canaries are texts to learn"):
        Recipe(name="no", data=Data(sources=(Source(from_="x"),), canaries=canaries), task=TONE)


def test_exposure_is_the_rank_among_sentences_of_chance_and_at_most_all_of_them() -> None:
    others_N = np.random.default_rng(0).normal(-40, 2, 255)
    assert exposure_bits(float(np.median(others_N)), others_N) == pytest.approx(1.0, abs=0.05)
    assert exposure_bits(float(others_N.max()) + 0.1, others_N) >= 8.0
    assert exposure_bits(-1.0, others_N) == SPACE_BITS
    assert set(Canaries().alternatives(99)).isdisjoint(text for text, _ in Canaries().planted())


# The verdict


def estimate(value: float, reach: float = 0.1) -> Estimate:
    return Estimate(value=value, low=value - reach, high=value + reach, n=100)


@pytest.mark.parametrize(
    ("carried", "verdict"),
    [(0.9, "understood"), (0.1, "memorised"), (0.55, "cannot tell"), (None, "cannot tell")],
)
def test_the_verdict_follows_from_the_whole_interval(carried: float | None, verdict: str) -> None:
    share = None if carried is None else estimate(carried)
    assert door.judge(estimate(0.4), share, None, "accuracy")[0] == verdict


def test_few_rows_without_a_change_are_no_certainty() -> None:
    still = paired.changed_share(np.ones(20), np.ones(20))
    assert still.value == 0 and still.low < -0.08 and still.high > 0.08
    down = paired.changed_share(np.ones(50), np.r_[np.zeros(20), np.ones(30)])
    assert down.value == -0.4 and down.high < -0.2


def test_two_shares_are_told_apart_as_newcombe_tells_them() -> None:
    # Newcombe 1998, table II, (a): 56/70 - 48/80 by method 10 is 0.0524 to 0.3339.
    groups = [str(place) for place in range(80)]
    found = paired.more_in(np.r_[np.ones(56), np.zeros(14)], np.r_[np.ones(48), np.zeros(32)], (groups[:70], groups))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)
    pairs = [str(place // 2) for place in range(40)]
    nothing = paired.more_in(np.zeros(40), np.zeros(40), (pairs, pairs))
    assert nothing.value == 0 and nothing.high > 0.1  # 20 groups without one are no certainty
    assert paired.change(np.zeros(40), np.zeros(40), np.ones(40), pairs).high > 0.1


def test_rows_of_one_group_do_not_pass_for_many() -> None:
    values_N = np.repeat(np.random.default_rng(0).normal(0, 1, 10), 20)
    own = paired.weighed(values_N, np.ones(200), [str(place) for place in range(200)])
    grouped = paired.weighed(values_N, np.ones(200), [str(place // 20) for place in range(200)])
    assert grouped.high - grouped.low > 3 * (own.high - own.low)


def test_a_paper_needs_rows_and_asks_no_canary() -> None:
    rows = [talk(number, f"a {number}", "the day") for number in range(9)]
    planted = [one.replace(source=SOURCE) for one in rows]
    with pytest.raises(RequestError, match="too few"):
        door.set_paper(planted, rows, Reply())
    assert len(door.set_paper(rows, rows, Reply(), rows=8).train) == 8


# The proof, and its planted faults


def test_the_exam_tells_a_rule_from_chance_and_exposure_follows_repeats() -> None:
    for check in prove_exam.CHECKS:
        found: CheckResult = check("ci")
        assert found.passed, f"{found.name}: {found.note}"


def test_the_printed_intervals_hold_the_truth_and_one_that_ignores_groups_does_not(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for found in prove_paired.checks("ci", workspace):
        assert found.passed, f"{found.name}: {found.note}"

    def alone(values_N: np.ndarray, weights_N: np.ndarray, groups: list[str], seed: int) -> np.ndarray:
        return paired.draws(values_N, weights_N, [str(place) for place in range(len(groups))], seed)

    monkeypatch.setattr(prove_paired, "draws", alone)
    monkeypatch.setitem(prove_paired.SIMULATIONS, "ci", 200)
    assert not next(prove_paired.checks("ci", workspace)).passed


def test_an_exam_that_takes_learning_for_understanding_fails_its_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(prove_exam.SEEDS, "ci", 1)
    whole = door.Both.gain

    def trained_only(self: door.Both, side: str, values: object) -> object:
        return whole(self, "train", values)  # type: ignore[arg-type]

    monkeypatch.setattr(door.Both, "gain", trained_only)
    assert not prove_exam.understood_or_memorised("ci").passed


def test_an_exam_without_controls_takes_boilerplate_for_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    from llmops.evals.exam import copying as module

    def uncontrolled(train: object, heldout: object, groups: object) -> object:
        (own, _), blank = train, [Reading([1] * 20, [0.0] * 20, [False] * 20)] * 24  # type: ignore[misc]
        return copying((own, blank), blank, groups)  # type: ignore[arg-type]

    copying = module.copying
    monkeypatch.setattr(door, "copying", uncontrolled)
    found = prove_exam.recited_or_boilerplate("ci")
    assert found.false_alarms > 0 and not found.passed


# The verb


def test_a_run_is_examined_and_the_exam_lies_beside_its_report(
    workspace: Workspace, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from llmops.cli.main import run

    recipe = tiny_recipe(tiny_base, write_csv(tmp_path / "rows.csv", made_up_rows(120)), epochs=1)
    trained = pipeline.train(pipeline.plan(recipe, pipeline.prepare(recipe, workspace), workspace), workspace)
    report, where = pipeline.evaluate(trained.id, workspace), ["--workspace", str(workspace.root)]
    page = pipeline.page(report.id, workspace)
    how, asks = f"llmops evaluate {trained.id} --exam", f"does: <code>llmops evaluate {trained.id} --exam<"
    assert asks in page.read_text(encoding="utf-8") and run(["show", trained.id, *where]) == 0
    assert f"not asked yet: {how}" in " ".join(capsys.readouterr().out.split())
    assert run(["show", report.id, "--exam", *where]) == 2 and how in capsys.readouterr().err
    exam = pipeline.examine(trained.id, workspace, rows=24)
    assert asks not in page.read_text(encoding="utf-8") and exam.id in page.read_text(encoding="utf-8")
    assert isinstance(exam, Exam) and exam.rows_train == exam.rows_heldout == 24
    assert (
        exam.gained.n == 24 and exam.copying is None and {gap.measure for gap in exam.gaps} == {"accuracy", "loss_nats"}
    )
    assert {line.kind for line in exam.twins} >= {"paraphrase", "number"}
    version = pipeline.register(report.id, workspace)
    for ref in (trained.id, report.id, version.ref):  # one model, whatever it is called by
        assert run(["show", ref, *where]) == 0
        assert f"exam {exam.verdict}: {exam.because[:40]}" in " ".join(capsys.readouterr().out.split())
    assert run(["show", version.ref, "--exam", "--json", *where]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == exam.id
    assert pipeline.examined(trained.plan, workspace) is None
    assert exam.rows_there is not None and 24 < exam.rows_there < 96
    unsure = exam.replace(verdict="cannot tell")
    assert str(unsure.advice).endswith(f"--rows {exam.rows_there}")  # no more than there are
    assert unsure.replace(rows_there=24).advice == "all rows were asked: only more rows held out would tell"
    found = pipeline.examined(report.id, workspace)
    assert found is not None and found.exam == exam and found.forgetting is None
    assert run(["evaluate", "last", "--exam", "--json", "--workspace", str(workspace.root)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["verdict"] in ("understood", "memorised", "cannot tell") and printed["id"].startswith("ex-")
    assert run(["evaluate", "last", "--exam", "--rows", "24", "--workspace", str(workspace.root)]) == 0
    assert capsys.readouterr().out.startswith(printed["verdict"])
    assert run(["evaluate", "last", "--exam", "--forgetting", "--workspace", str(workspace.root)]) == 2
    write_json(workspace.folder(EvalReport, "rp-other") / "exam.json", {"subject": {"ref": "other:1"}, "form": "old"})
    assert run(["show", version.ref, *where]) == 0  # whatever another release wrote of another model, or of its plan
    write_json(workspace.root / "plans" / f"{trained.plan}.json", {"form": "old"})
    assert run(["show", trained.id, *where]) == 0
    assert "exam" in capsys.readouterr().out


def test_a_model_copies_itself_and_stays_the_same() -> None:
    one = new_learner(3)
    other = copy_of(one)
    teach(other, [talk(0, "a day", "the lake")], 2, 0.01, 0)
    before, after = (model.reply_logprobs([(talk(0, "a day", "x").prompt, "the lake")])[0][0] for model in (one, other))
    assert after > before
