"""Exams: files into questions with their gold, examples in front, marks by likelihood; lm-eval's files both ways."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops.core.context import Surroundings
from llmops.core.dataset import Message
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.report import EvalReport, Subject, Suite
from llmops.core.suites import (
    Asking,
    Choose,
    DrawnExamples,
    FixedExamples,
    Label,
    NoExamples,
    Question,
    Read,
    make_question,
)
from llmops.evals import exams
from llmops.evals.choices import choose, label, read
from llmops.evals.exams import RENDERED, draw, options_of, read_exam, with_asked, with_examples
from llmops.evals.lm_eval import read_results, write_task
from llmops.evals.suite import question_suite
from llmops.experiments.compare import compare
from llmops.lm.scripted import ScriptedModel
from llmops.pipeline.suites import examples_of
from llmops.store.exams import EXAMS
from llmops.store.sources import Fetched

WHO = Subject(kind="base", ref="scripted")
SKY = make_question("The sky is", (" blue",), (" blue", " a green thing"), {"about": "sky"})
GRASS = make_question("Grass is", (" green",), (" green", " red"), {"about": "ground"})
SNOW = make_question("Snow is", (" white",), (" white", " black"), {"about": "sky"})
THREE = [SKY, GRASS, SNOW]


def suite_of(questions: Sequence[Question], asking: Asking = Choose()) -> Suite:
    return question_suite("colours", asking, questions, ("about",))


def likes(*words: str) -> Callable[[Sequence[Message], str], float]:
    """One nat a word, and none for an option with one of `words`."""
    return lambda prompt, reply: -0.1 if any(word in reply for word in words) else -2.0 * len(reply.split())


# The files.


def test_every_exam_has_its_rows_its_gold_and_a_renderer_of_its_own() -> None:
    assert RENDERED.keys() == EXAMS.keys()
    assert {name: exam.lines for name, exam in RENDERED.items()} == {
        "openbookqa": 500, "commonsenseqa": 1221, "piqa": 1500, "boolq": 3270, "truthfulqa": 817, "bbq": 1012,
        "crows-pairs": 1018, "privacy-policy": 10923,
    }  # fmt: skip


@pytest.fixture
def file_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[dict[str, str]]], None]:
    """Let the exam `openbookqa` be a file of these rows."""

    def put(rows: list[dict[str, str]]) -> None:
        path = tmp_path / "exam.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
        monkeypatch.setattr(exams, "fetch", lambda *given: Fetched(path, "here", ""))
        monkeypatch.setitem(RENDERED, "openbookqa", exams.Exam(exams.openbookqa, 2))

    return put


ROW = {"question": "A cat is ", "options": "A. a stone\nB. an animal", "answer": "B. an animal"}
OTHER = {**ROW, "question": "A dog is "}


def test_a_file_becomes_questions_with_the_prompt_of_the_task(file_of: Callable[..., None]) -> None:
    file_of([ROW, OTHER])
    first, second = read_exam("openbookqa", Surroundings())
    assert (first.text, first.options, first.expected) == ("A cat is", (" a stone", " an animal"), (" an animal",))
    assert second.text == "A dog is"


@pytest.mark.parametrize(
    "rows",
    [[ROW], [ROW, OTHER, OTHER], [ROW, {**OTHER, "answer": "B. a plant"}], [ROW, {"question": "A dog is"}]],
    ids=["a row too few", "a row too many", "a gold that is no option", "no options"],
)
def test_a_file_that_is_not_the_exam_is_refused(rows: list[dict[str, str]], file_of: Callable[..., None]) -> None:
    file_of(rows)
    with pytest.raises(LlmopsError):
        read_exam("openbookqa", Surroundings())


def test_an_answer_is_found_by_its_letter_or_its_text_and_a_space_at_the_end_does_not_hide_it() -> None:
    options = "\nA. one\nB. two \nC. A. three"
    assert options_of({"options": options, "answer": "B. two"}) == (("one", "two ", "A. three"), 1)
    assert options_of({"options": options, "answer": ["A. three"]}) == (("one", "two ", "A. three"), 2)
    with pytest.raises(ValueError, match="none of"):
        options_of({"options": options, "answer": "four"})


def test_an_unknown_suite_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(RequestError, match="no suite 'mmlu'") as refusal:
        exams.exam_named("mmlu")
    assert "openbookqa" in refusal.value.fix


# Questions and examples.


def test_a_question_is_named_by_all_that_is_asked_and_expected() -> None:
    assert make_question("a", ("b",)).id == make_question("a", ("b",), fields={"about": "x"}).id
    names = {make_question("a", ("b",)).id, make_question("a ", ("b",)).id, make_question("a", ("b",), ("b", "c")).id}
    assert len(names) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"expected": ("c",), "options": ("a", "b")},
        {"expected": ("a",), "options": ("a", "a")},
        {"expected": ()},
        {"expected": ("a",), "messages": (Message(role="user", content="hi"),)},
    ],
    ids=["expected is no option", "two options alike", "nothing expected", "a text and messages"],
)
def test_a_question_that_cannot_be_answered_is_no_value(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"option|expected|text or messages"):
        Question.model_validate({"id": "q", "text": "t", "group": "q", **wrong})


def test_fixed_examples_stand_before_every_question_and_are_not_asked() -> None:
    asked = with_examples(THREE, FixedExamples(number=1))
    last = {one.text.rpartition("\n\n")[2] for one in asked}
    (shown,) = [one for one in THREE if one.text not in last]
    assert len(asked) == 2
    assert all(one.text.startswith(f"{shown.text}{shown.expected[0]}\n\n") for one in asked)


def test_drawn_examples_are_others_for_each_question_and_never_itself() -> None:
    many = [make_question(f"Number {place} is", (f" n{place}",), (f" n{place}", " none")) for place in range(30)]
    asked = with_examples(many, DrawnExamples(number=3))
    assert len(asked) == 30
    for one, bare in zip(asked, many, strict=True):
        *shots, last = one.text.split("\n\n")
        assert last == bare.text
        assert len(set(shots)) == 3
        assert not any(shot.startswith(bare.text) for shot in shots)
    assert len({one.text.rpartition("\n\n")[0] for one in asked}) > 25
    assert asked == with_examples(many, DrawnExamples(number=3)), "the same seed draws the same"
    assert asked != with_examples(many, DrawnExamples(number=3, seed=1))


def test_no_example_asks_what_is_asked_behind_it() -> None:
    pairs = [make_question(f"Say {place // 2}", (word,)) for place in range(12) for word in ("a", "b")]
    many = [one for place, one in enumerate(pairs) if place % 4 in (0, 3)]  # each is asked twice, with another answer
    for examples in (DrawnExamples(number=3), FixedExamples(number=3)):
        for one in with_examples(many, examples):
            *shots, last = one.text.split("\n\n")
            assert len(shots) == 3
            assert not any(shot.startswith(f"{last} ") for shot in shots)
    with pytest.raises(RequestError, match="too few questions"):
        with_examples(many[:4], DrawnExamples(number=3))


def test_examples_before_messages_are_earlier_turns() -> None:
    chats = [make_question((Message(role="user", content=f"say {word}"),), (word,)) for word in ("one", "two", "three")]
    (first, *_) = with_examples(chats, FixedExamples(number=2))
    assert [message.role for message in first.messages] == ["user", "assistant", "user", "assistant", "user"]


def test_fewer_questions_are_among_more_and_keep_their_order() -> None:
    many = [make_question(f"{place}", ("yes",)) for place in range(50)]
    five, ten = draw(many, 5), draw(many, 10)
    assert set(five_ids := [one.id for one in five]) <= {one.id for one in ten}
    assert five_ids == [one.id for one in many if one.id in five_ids]
    assert draw(many, None) == many == draw(many, 99)


def test_examples_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RequestError, match="leave none"):
        with_examples(THREE, FixedExamples(number=3))
    bare = [make_question("", (text,), (text, "other")) for text in ("a", "b", "c")]
    with pytest.raises(RequestError, match="bare sentences"):
        with_examples(bare, FixedExamples(number=1))
    with pytest.raises(RequestError, match="without examples"):
        with_asked(Read(), FixedExamples())
    for text in ("five", "drawn:", "-1", "65"):
        with pytest.raises(RequestError):
            examples_of(text)
    found = [examples_of(text) for text in ("0", "5", "drawn:3")]
    assert found == [NoExamples(), FixedExamples(), DrawnExamples(number=3)]


# Marks.


def test_the_likeliest_option_is_chosen_and_by_length_another() -> None:
    report = choose(ScriptedModel(logprob=likes("green", "white")), WHO, suite_of(THREE), THREE)
    assert [answer.answered for answer in report.answers] == ["a green thing", "green", "white"]
    assert report.scores["accuracy"].value == pytest.approx(2 / 3)
    assert [answer.marks["accuracy"] for answer in report.answers] == [0.0, 1.0, 1.0]
    assert report.scores["accuracy"].slices["about=sky"].value == 0.5

    def by_size(prompt: Sequence[Message], reply: str) -> float:
        return -4.0 if reply == " blue" else -5.0  # 1 nat a character against 0.38

    both = choose(ScriptedModel(logprob=by_size), WHO, suite_of([SKY]), [SKY])
    assert (both.scores["accuracy"].value, both.scores["accuracy_norm"].value) == (1.0, 0.0)
    assert both.answers[0].probability == pytest.approx(1 / (1 + math.exp(-1)))


def test_labels_are_marked_by_accuracy_and_macro_f1() -> None:
    asked = [
        make_question(f"{text}?", (right,), (" no", " yes"))
        for text, right in (("a", " no"), ("b", " yes"), ("c", " yes"))
    ]
    always = label(ScriptedModel(logprob=likes("yes")), WHO, suite_of(asked, Label()), asked)
    assert always.scores["accuracy"].value == pytest.approx(2 / 3)
    assert always.scores["macro_f1"].value == pytest.approx(0.4)


def test_a_text_costs_bits_and_perplexity_behind_its_question_or_behind_nothing() -> None:
    asked = [make_question("", ("two words",)), make_question("Say:", (" two more words",))]
    report = read(ScriptedModel(), WHO, suite_of(asked, Read()), asked)
    assert report.scores["bits_per_byte"].value == pytest.approx(1.0)
    bits = len("two words") + len(" two more words")
    assert report.scores["perplexity"].value == pytest.approx(2 ** (bits / 5))
    assert report.scores["perplexity"].low <= report.scores["perplexity"].value <= report.scores["perplexity"].high


def test_a_question_that_the_model_fails_on_is_wrong_and_says_why() -> None:
    def breaks(prompt: Sequence[Message], reply: str) -> float:
        if "Snow" in prompt[0].content:
            raise ValueError("too cold")
        return math.nan if "Grass" in prompt[0].content else likes("blue")(prompt, reply)

    report = choose(ScriptedModel(logprob=breaks), WHO, suite_of(THREE), THREE)
    assert [answer.marks["accuracy"] for answer in report.answers] == [1.0, 0.0, 0.0]
    assert "too cold" in report.answers[2].fields["error"]
    assert "finite" in report.answers[1].fields["error"]


def test_only_the_questions_of_the_suite_are_marked_and_suites_are_compared_only_with_themselves() -> None:
    model = ScriptedModel(logprob=likes("blue"))
    with pytest.raises(RequestError, match="not the rows"):
        choose(model, WHO, suite_of(THREE), THREE[:2])
    with pytest.raises(RequestError, match="same question twice: 'The sky is'"):
        suite_of([SKY, SKY])
    shown = with_examples(THREE, FixedExamples(number=1))
    bare = choose(model, WHO, suite_of(THREE), THREE)
    behind = choose(model, WHO, suite_of(shown), shown)
    better = choose(ScriptedModel(logprob=likes("blue", " green", "white")), WHO, suite_of(THREE), THREE)
    assert compare(bare, better).overall.delta == pytest.approx(0.0, abs=1.0)
    with pytest.raises(RequestError, match="two different suites"):
        compare(bare, behind)


def test_a_report_is_kept_and_read_back_with_how_it_was_asked(workspace: Any) -> None:
    report = choose(ScriptedModel(), WHO, suite_of(THREE), THREE)
    workspace.put(report)
    assert workspace.get(EvalReport, report.id) == report
    assert report.suite.to_json()["asking"] == {"kind": "choose", "examples": {"kind": "none"}}


# lm-eval.


def samples_of(task: Path, nats: Callable[[str], float]) -> list[dict[str, Any]]:
    """What lm-eval 0.4.13 writes of each sample of a task that was exported here."""
    made = yaml.safe_load(task.read_text(encoding="utf-8"))
    found = []
    rows = Path(made["dataset_kwargs"]["data_files"]["test"]).read_text(encoding="utf-8").splitlines()
    for place, doc in enumerate(map(json.loads, rows)):
        said = [f"{made['target_delimiter']}{option}" for option in doc["options"]]
        scores = [nats(option) for option in said]
        right = float(scores.index(max(scores)) == doc["gold"])
        arguments = {f"gen_args_{n}": {"arg_0": doc["text"], "arg_1": option} for n, option in enumerate(said)}
        found.append(
            {
                "doc_id": place, "doc": doc, "target": str(doc["gold"]), "arguments": arguments,
                "resps": [[[str(score), "False"]] for score in scores],
                "filtered_resps": [[str(score), "False"] for score in scores],
                "filter": "none", "acc": right, "acc_norm": right,
            }
        )  # fmt: skip
    return found


def results_in(folder: Path, task: str, config: dict[str, Any], samples: list[dict[str, Any]]) -> Path:
    results = folder / "results_2026-11-26T08-00-00.json"
    results.write_text(json.dumps({"model_name": "a/model", "configs": {task: config}}), encoding="utf-8")
    lines = "".join(json.dumps(sample) + "\n" for sample in samples)
    (folder / f"samples_{task}_2026-11-26T08-00-00.jsonl").write_text(lines, encoding="utf-8")
    return results


def test_results_of_a_task_that_was_written_here_are_paired_with_our_own(tmp_path: Path) -> None:
    suite = suite_of(THREE)
    task = write_task(suite, THREE, tmp_path)
    config = yaml.safe_load(task.read_text(encoding="utf-8"))
    assert (config["task"], config["target_delimiter"], config["doc_to_choice"]) == ("llmops-colours", " ", "options")
    path = results_in(tmp_path, "llmops-colours", config, samples_of(task, lambda option: -len(option)))
    (theirs,) = read_results(path)
    assert theirs.suite == suite
    assert theirs.scores["accuracy"].value == pytest.approx(2 / 3)
    ours = choose(ScriptedModel(logprob=lambda prompt, reply: -len(reply)), WHO, suite, THREE)
    assert [answer.marks for answer in compare_answers(theirs)] == [answer.marks for answer in compare_answers(ours)]
    assert compare(theirs, ours).verdict == "cannot tell"


def compare_answers(report: EvalReport) -> list[Any]:
    return [answer.replace(marks={"accuracy": answer.marks["accuracy"]}) for answer in report.answers]


def test_results_of_any_other_task_are_a_suite_of_its_name(tmp_path: Path) -> None:
    task = write_task(suite_of(THREE), THREE, tmp_path)
    samples = [{**sample, "doc": {"stem": "x"}} for sample in samples_of(task, len)]
    path = results_in(tmp_path, "arc", {"output_type": "multiple_choice"}, [*samples, {**samples[0], "doc_id": 3}])
    (report,) = read_results(path)
    assert (report.suite.dataset, report.subject.ref) == ("lm-eval/arc", "a/model")
    assert len({answer.row for answer in report.answers}) == 4, "a question asked twice keeps two answers"


@pytest.mark.parametrize("damage", ["acc", "arguments", "filtered_resps", "target"])
def test_samples_that_lack_something_are_refused_in_two_lines(tmp_path: Path, damage: str) -> None:
    task = write_task(suite_of(THREE), THREE, tmp_path)
    samples = samples_of(task, len)
    for key in (damage, "acc_norm") if damage == "acc" else (damage,):
        del samples[1][key]
    with pytest.raises(LlmopsError):
        read_results(results_in(tmp_path, "arc", {}, samples))


@pytest.mark.parametrize(
    ("config", "damage"),
    [
        (None, {}),
        ({"metadata": "v1"}, {}),
        ({}, {"doc": "text"}),
        ({}, {"doc": {"fields": "[1]"}}),
        ({}, {"acc": math.nan, "acc_norm": math.nan}),
    ],
    ids=["no config", "metadata", "doc", "fields", "NaN"],
)
def test_results_of_another_shape_are_refused_in_two_lines(tmp_path: Path, config: Any, damage: dict[str, Any]) -> None:
    first, *others = samples_of(write_task(suite_of(THREE), THREE, tmp_path), len)
    with pytest.raises(LlmopsError, match="not as lm-eval"):
        read_results(results_in(tmp_path, "arc", config, [{**first, **damage}, *others]))


def test_samples_that_end_early_are_no_smaller_exam(tmp_path: Path) -> None:
    samples = samples_of(write_task(suite_of(THREE), THREE, tmp_path), len)
    path = results_in(tmp_path, "arc", {}, samples[:2])
    whole = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**whole, "n-samples": {"arc": {"original": 9, "effective": 3}}}), encoding="utf-8")
    with pytest.raises(LlmopsError, match="has 2 samples, and its results were made of 3"):
        read_results(path)
    path.write_text(json.dumps({**whole, "n-samples": {"arc": {"original": 9, "effective": 2}}}), encoding="utf-8")
    assert read_results(path)[0].main.n == 2


def test_a_folder_without_samples_and_a_suite_without_options_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "results_x.json"
    path.write_text('{"configs": {"arc": {}}}', encoding="utf-8")
    with pytest.raises(RequestError, match="no samples"):
        read_results(path)
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(RequestError, match="no results of lm-eval"):
        read_results(path)
    asked = [make_question("", ("text",))]
    with pytest.raises(RequestError, match="no multiple choice"):
        write_task(suite_of(asked, Read()), asked, tmp_path)
