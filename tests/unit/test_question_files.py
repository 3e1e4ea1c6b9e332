"""A file of questions becomes a suite, exactly: a row is asked or it is an error, and only named code runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmops.core.dataset import Message, Row
from llmops.core.errors import RequestError
from llmops.core.report import Subject
from llmops.core.scorers import Number
from llmops.core.tasks import Classify, Continue, Reply
from llmops.data.file_suites import asking_of, load_suite
from llmops.data.questions import held_out, read_questions
from llmops.evals.generate import generate
from llmops.evals.scorers.mark import Tools
from llmops.evals.scorers.named import described, load_function
from llmops.lm.scripted import ScriptedModel
from llmops.pipeline.file_suites import Own, Wanted, is_own, own_suite, tools_for

ME = Subject(kind="base", ref="me")


def written(folder: Path, name: str, *rows: dict | str) -> Path:
    path = folder / name
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def test_columns_are_known_by_their_names(tmp_path):
    file = written(
        tmp_path,
        "q.jsonl",
        {"question": "What is 2 + 2?", "answer": 4, "topic": "sums"},
        {"question": "Who says moo?", "answer": ["cow", "a cow"], "topic": "animals"},
        {"question": "Who says miaow?", "answer": '["cat"]', "topic": "animals"},
        *({"question": f"What is {one} + 1?", "answer": one + 1, "topic": "sums"} for one in range(9)),
    )
    found = read_questions(file)
    assert [question.expected for question in found.questions[:3]] == [("4",), ("cow", "a cow"), ("cat",)]
    assert found.questions[0].messages == (Message(role="user", content="What is 2 + 2?"),)
    assert found.slices == ("topic",)
    assert found.questions[0].fields == {"topic": "sums"}


@pytest.mark.parametrize(
    ("row", "options", "expected"),
    [
        ({"question": "Ice is", "choices": ["hot", "cold"], "answer": "B"}, ("hot", "cold"), "cold"),
        ({"question": "Ice is", "choices": ["hot", "cold"], "answer": "cold"}, ("hot", "cold"), "cold"),
        (
            {"question": "Ice is", "choices": {"text": ["hot", "cold"], "label": ["A", "B"]}, "answer": "A"},
            ("hot", "cold"),
            "hot",
        ),
        ({"question": "Ice is", "A": "hot", "B": "cold", "answer": "b"}, ("hot", "cold"), "cold"),
        (
            {"goal": "Cool a drink", "sol1": "put ice in", "sol2": "boil it", "label": 0},
            ("put ice in", "boil it"),
            "put ice in",
        ),
    ],
)
def test_options_are_found_in_every_form(tmp_path, row, options, expected):
    question = read_questions(written(tmp_path, "c.jsonl", row)).questions[0]
    assert question.options == options
    assert question.expected == (expected,)


def test_numbers_of_options_are_counted_only_where_it_is_clear_from_what(tmp_path):
    rows = [{"question": f"q{one}", "choices": ["a", "b", "c"], "answer": one} for one in (0, 2)]
    assert [one.expected for one in read_questions(written(tmp_path, "c.jsonl", *rows)).questions] == [("a",), ("c",)]
    with pytest.raises(RequestError, match="counted from 0 or 1"):
        read_questions(written(tmp_path, "d.jsonl", *[{**row, "answer": 1} for row in rows]))


def test_options_are_shown_where_the_answer_is_generated(tmp_path):
    file = written(tmp_path, "c.jsonl", {"question": "Ice is", "choices": ["hot", "cold"], "answer": "B"})
    assert "A. hot\nB. cold" in read_questions(file, options="lettered").questions[0].asked
    assert read_questions(file).questions[0].asked == "Ice is"


def test_a_person_says_which_column_is_what(tmp_path):
    file = written(tmp_path, "q.jsonl", {"x": "2 + 2", "y": "4", "question": "not this one"})
    question = read_questions(file, {"prompt": "x", "expected": "y"}).questions[0]
    assert (question.asked, question.expected) == ("2 + 2", ("4",))
    with pytest.raises(RequestError, match="no column 'z'"):
        read_questions(file, {"prompt": "z"})


def test_columns_that_tell_nothing_are_asked_for_with_the_flags_that_there_are(tmp_path):
    file = written(tmp_path, "bad.jsonl", {"aa": 1, "bb": 2}, {"aa": "x", "bb": "y"})
    with pytest.raises(RequestError, match="no column looks like") as refused:
        read_questions(file)
    assert refused.value.fix == "say both: --column prompt=NAME --column expected=NAME; columns: aa, bb"


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"question": "Who?", "answer": ""}, "line 2: empty"),
        ({"question": "", "answer": "x"}, "line 2: empty"),
        ("{broken", "line 2"),
        ({"question": "Who?"}, "line 2"),
        ({"question": "Who?", "answer": "caf\ufffd"}, "line 2"),
    ],
)
def test_a_row_that_cannot_be_asked_is_an_error_and_not_a_loss(tmp_path, bad, why):
    with pytest.raises(RequestError, match=why):
        read_questions(written(tmp_path, "q.jsonl", {"question": "Who says moo?", "answer": "cow"}, bad))


def test_an_expected_answer_that_is_no_option_is_an_error(tmp_path):
    with pytest.raises(RequestError, match="none of the options"):
        read_questions(
            written(tmp_path, "c.jsonl", {"question": "Ice is", "choices": ["hot", "cold"], "answer": "warm"})
        )


def test_rows_of_another_form_are_mapped_as_new_maps_them(tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": f"hello {one}"}, {"role": "assistant", "content": f"hi {one}"}]}
        for one in range(3)
    ]
    found = read_questions(written(tmp_path, "m.jsonl", *rows)).questions
    assert found[1].messages == (Message(role="user", content="hello 1"),)
    assert found[1].expected == ("hi 1",)


@pytest.mark.parametrize("labels", [("good", "bad"), (0, 1)], ids=["words", "numbers"])
def test_labelled_texts_have_their_labels_for_options_whatever_the_columns_are_called(tmp_path, labels):
    for text, label in (("text", "label"), ("review", "sentiment")):
        rows = [{text: f"row {one} is what it is", label: labels[one % 3 == 0]} for one in range(30)]
        file = str(written(tmp_path, f"{label}.jsonl", *rows))
        suite, questions, _ = own_suite("me", file, Wanted(), Own(), None)
        assert suite.asking.kind == "label"
        assert set(questions[0].options) == {str(one) for one in labels}
    rows = [{"question": f"Who wrote book {one}?", "label": f"author {one}"} for one in range(5)]
    with pytest.raises(RequestError, match="not said how to mark"):
        own_suite("me", str(written(tmp_path, "q.jsonl", *rows)), Wanted(), Own(), None)


def test_a_file_with_options_is_asked_by_likelihood_and_one_without_needs_a_scorer(tmp_path):
    rows = [{"question": f"{one}?", "choices": [f"a{one}", f"b{one}"], "answer": "A"} for one in range(3)]
    suite, questions, _ = own_suite("me", str(written(tmp_path, "c.jsonl", *rows)), Wanted(), Own(), None)
    assert suite.asking.kind == "choose"
    assert len(questions) == 3
    file = written(tmp_path, "q.jsonl", {"question": "Who says moo?", "answer": "cow"})
    with pytest.raises(RequestError, match="not said how to mark"):
        own_suite("me", str(file), Wanted(), Own(), None)
    suite, _, _ = own_suite("me", str(file), Wanted("number", ("scorer.tolerance=0.5", "samples=2")), Own(), None)
    assert suite.asking.scorer == Number(tolerance=0.5)
    assert suite.asking.samples == 2
    assert suite.dataset == "q"


@pytest.mark.parametrize(
    ("sets", "what", "fix"),
    [
        (["scorer.tol=1"], "no field 'scorer.tol'", "tolerance"),
        (["sampling.max=1"], "no field 'sampling.max'", "max_tokens"),
        (["sample=1"], "no field 'sample'", "samples"),
        (["scorer.tolerance=much"], "scorer.tolerance", "--set"),
        (["scorer.kind=nope"], "scorer", "--set"),
        (["samples"], "no change", "--set"),
        (["samples.x=1"], "samples", "itself"),
    ],
)
def test_a_knob_that_is_wrong_is_named(sets, what, fix):
    with pytest.raises(RequestError) as error:
        asking_of({"kind": "generate", "scorer": {"kind": "number"}, "samples": 1}, sets, "here")
    assert what in error.value.what
    assert fix in error.value.fix


def test_a_pattern_keeps_its_signs():
    asking = asking_of({"kind": "generate", "scorer": {"kind": "regex"}}, ["scorer.pattern=#### (.*): [a=b]"], "here")
    assert asking.scorer.pattern == "#### (.*): [a=b]"


SUITE = """
rows: q.jsonl
columns: {expected: answer}
asking:
  kind: generate
  scorer: {kind: function, function: "mine.py:mark"}
  sampling: {max_tokens: 8}
"""


def test_code_that_a_yaml_file_names_runs_only_where_a_person_names_it_too(tmp_path):
    written(tmp_path, "q.jsonl", {"question": "Who says moo?", "answer": "cow"})
    canary = tmp_path / "ran"
    (tmp_path / "mine.py").write_text(f"open({str(canary)!r}, 'w')\ndef mark(answer, question): return len(answer)\n")
    (tmp_path / "suite.yaml").write_text(SUITE)
    suite, questions, own = own_suite("me", str(tmp_path / "suite.yaml"), Wanted(), Own(), None)

    class Here:
        class world:
            track = None

    with pytest.raises(RequestError, match="name its file yourself"):
        generate(ScriptedModel(), ME, suite, questions, tools_for(suite.asking, own, Here))
    assert not canary.exists()
    assert suite.asking.scorer.sha256 == ""
    suite, questions, own = own_suite(
        "me", str(tmp_path / "suite.yaml"), Wanted(), Own(trusted=(tmp_path / "mine.py",)), None
    )
    report = generate(
        ScriptedModel(), ME, suite, questions, Tools(functions=tools_for(suite.asking, own, Here).functions)
    )
    assert canary.exists()
    assert report.main.value == len("Who says moo?")
    assert len(suite.asking.scorer.sha256) == 64
    assert str(tmp_path) not in json.dumps(suite.to_json())


def test_a_suite_in_yaml_says_what_is_wrong_with_it(tmp_path):
    file = tmp_path / "suite.yaml"
    for text, what in (("rows: a.jsonl", "no suite"), (SUITE + "more: 1", "no field 'more'"), ("- a", "no suite")):
        file.write_text(text)
        with pytest.raises(RequestError, match=what):
            load_suite(file)


def test_a_scorer_is_typed_as_a_kind_a_function_a_schema_or_a_program(tmp_path):
    (tmp_path / "mine.py").write_text("def mark(answer, question):\n    return 0.5\n")
    (tmp_path / "s.json").write_text('{"type": "object"}')
    assert described("includes") == ({"kind": "includes"}, None)
    data, file = described(f"{tmp_path / 'mine.py'}:mark")
    assert data == {"kind": "function", "function": "mine.py:mark"}
    assert load_function(file, "mark")("", None) == 0.5
    assert described(str(tmp_path / "s.json"))[0]["kind"] == "schema"
    assert described(str(tmp_path / "mine.py")) == ({"kind": "code", "program": "mine.py"}, tmp_path / "mine.py")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(RequestError, match="it holds no object"):
        described(str(tmp_path / "list.json"))
    for wrong in ("inclodes", "nowhere.py:mark", "nowhere.json"):
        with pytest.raises(RequestError):
            described(wrong)
    with pytest.raises(RequestError, match="no function 'other'"):
        load_function(file, "other")
    file.write_text("1/0")
    with pytest.raises(RequestError, match="ZeroDivisionError"):
        load_function(file, "mark")


def row(text: str, reply: str, label: str | None = None) -> Row:
    messages = (Message(role="user", content=text), Message(role="assistant", content=reply)) if reply else ()
    return Row(id=text, messages=messages, text=text, label=label, fields={"d": "x"}, group="g", source="s", line=1)


def test_held_out_rows_are_questions_of_every_task():
    tone = Classify(question="Which?", labels=("good", "bad"))
    labelled = held_out([row("fine", "good", "good")], tone, ("d",))
    assert labelled.questions[0].options == ("good", "bad")
    assert labelled.questions[0].group == "g"
    assert labelled.slices == ("d",)
    assert held_out([row("hello", "hi")], Reply()).questions[0].expected == ("hi",)
    running = held_out([row("once upon a time", "")], Continue()).questions[0]
    assert (running.asked, running.expected) == ("", ("once upon a time",))


def test_names_of_own_rows_and_of_exams_are_told_apart():
    assert all(is_own(name) for name in ("q.jsonl", "some/q", "s.yaml", "heldout", "ds-1234", "q.CSV"))
    assert not any(is_own(name) for name in ("openbookqa", "truthfulqa"))
