"""Questions are answered in the model's own words, marked, and kept; a file of them becomes a suite, exactly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmops.core.dataset import Message
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.report import EvalReport, Subject
from llmops.core.scorers import Bleu, Exact, Function, Includes, Judge, Number
from llmops.core.serving import Sampling
from llmops.core.suites import Generate, Question, make_question
from llmops.data.file_suites import asking_of, load_suite
from llmops.data.questions import read_questions
from llmops.evals.generate import generate
from llmops.evals.prove_metrics import CLAIMS, check
from llmops.evals.scorers.mark import Tools
from llmops.evals.scorers.named import described, load_function
from llmops.evals.suite import question_suite
from llmops.experiments.compare import compare
from llmops.lm.scripted import ScriptedModel
from llmops.pipeline.file_suites import Own, Wanted, own_suite, tools_for

ME = Subject(kind="base", ref="me")


def chat(text: str, *expected: str, **fields: str) -> Question:
    return make_question((Message(role="user", content=text),), expected, fields=fields)


QUESTIONS = [
    chat(f"What is {number} + 1?", str(number + 1), half="low" if number < 10 else "high") for number in range(20)
]


def adds(prompt) -> str:
    number = int(prompt[-1].content.split()[2])
    return f"It is {number + 1 if number % 4 else number}."


def asked(scorer, questions=QUESTIONS, model=None, tools=None, **asking) -> EvalReport:
    suite = question_suite(
        "sums", Generate(scorer=scorer, **asking), questions, ("half",) if questions[0].fields else ()
    )
    return generate(model or ScriptedModel(replies=adds), ME, suite, questions, tools or Tools())


def test_every_answer_is_marked_and_kept_with_what_was_read():
    report = asked(Number())
    assert report.main.metric == "number"
    assert report.main.value == 0.75
    assert report.main.low < 0.75 < report.main.high
    assert report.answers[0].answered == "It is 0."
    assert report.answers[0].notes == {"scorer_read": "0"}
    assert [answer.marks["number"] for answer in report.answers[:5]] == [0, 1, 1, 1, 0]
    assert set(report.main.slices) == {"half=low", "half=high"}


def test_an_answer_that_fails_is_wrong_and_says_why():
    def reply(prompt):
        if "7 + 1" in prompt[-1].content:
            raise RuntimeError("out of memory")
        return adds(prompt)

    report = asked(Number(), model=ScriptedModel(replies=reply))
    failed = report.answers[7]
    assert failed.fields["error"] == "RuntimeError: out of memory"
    assert failed.marks == {"number": 0.0}
    assert report.main.n == 20


def test_a_model_that_answers_nothing_has_no_score():
    def reply(prompt):
        raise RuntimeError("no")

    with pytest.raises(LlmopsError, match="answered none"):
        asked(Number(), model=ScriptedModel(replies=reply))


def test_an_answer_without_a_mark_is_no_part_of_the_score():
    judge = ScriptedModel(replies=lambda prompt: "no idea" if "is 9 + 1" in prompt[-1].content else "right")
    report = asked(Judge(model="judge"), tools=Tools(judges={"judge": judge}))
    assert report.main.n == 19
    assert report.main.value == 1.0
    assert report.answers[9].marks == {}
    assert report.answers[9].notes["judge_verdict"] == "no idea"
    assert report.main.slices["half=low"].n == 9
    other = asked(Judge(model="judge"), tools=Tools(judges={"judge": ScriptedModel(replies=lambda prompt: "wrong")}))
    made = compare(report, other)
    assert made.overall.n == 19
    assert made.verdict == "worse"


def test_a_scorer_that_marks_nothing_gives_no_score():
    judge = ScriptedModel(replies=lambda prompt: "who knows")
    with pytest.raises(LlmopsError, match="mark none"):
        asked(Judge(model="judge"), tools=Tools(judges={"judge": judge}))


def test_samples_have_seeds_of_their_own_and_a_question_counts_once():
    seen = []

    class Drawing(ScriptedModel):
        def reply(self, prompts, sampling, track=None):
            seen.append(sampling.seed)
            return ["1" if sampling.seed % 2 else "2" for _ in prompts]

    questions = [chat(f"Say one, please, {number}", "1") for number in range(8)]
    report = asked(Exact(), questions, Drawing(), samples=4, sampling=Sampling(temperature=0.8, seed=10))
    assert seen == [10, 11, 12, 13]
    assert report.main.n == 8
    assert report.main.value == 0.5
    assert [sample.mark for sample in report.answers[0].samples] == [0, 1, 0, 1]
    assert [sample.seed for sample in report.answers[0].samples] == seen
    stored = EvalReport.model_validate(report.to_json())
    assert stored.id == report.id


def test_greedy_samples_would_be_all_the_same():
    with pytest.raises(RequestError, match="temperature 0"):
        asked(Exact(), samples=3)


def test_corpus_bleu_stands_beside_the_mean_of_the_answers():
    questions = [
        chat(f"say the cat number {number} sat down on it", f"the cat number {number} sat down on it")
        for number in range(30)
    ]
    model = ScriptedModel(
        replies=lambda prompt: " ".join(prompt[-1].content.split()[1 : -1 - len(prompt[-1].content) % 2])
    )
    report = asked(Bleu(), questions, model)
    assert set(report.scores) == {"bleu_answer", "bleu"}
    from sacrebleu import corpus_bleu

    texts = [answer.answered for answer in report.answers]
    library = corpus_bleu(texts, [[question.expected[0] for question in questions]]).score
    assert report.scores["bleu"].value == pytest.approx(library)
    assert report.scores["bleu"].low < library < report.scores["bleu"].high


def test_the_interval_of_a_corpus_score_covers_its_truth():
    """BLEU of rows drawn from 400: its interval holds the BLEU of all 400 in about 95 of 100 draws."""
    import numpy as np

    from llmops.evals.scorers.overlap import bleu_scorer, corpus_interval, corpus_score

    random = np.random.default_rng(3)
    words = [f"w{place}" for place in range(30)]
    expected = [[" ".join(random.choice(words, 9))] for _ in range(400)]
    answers = [" ".join(word for word in texts[0].split() if random.random() > 0.2) for texts in expected]
    scorer = bleu_scorer(Bleu(), of_one=False)
    truth = corpus_score(scorer, answers, expected)
    held = 0
    for draw in range(60):
        places = random.integers(0, 400, 80)
        low, high = corpus_interval(scorer, [answers[i] for i in places], [expected[i] for i in places], draw)
        held += low <= truth <= high
    assert held >= 52


def test_a_text_is_gone_on_with_and_stops_where_it_was_told():
    questions = [make_question(f"Q: {number}?\nA:", (f"{number}",)) for number in range(3)]
    model = ScriptedModel(replies=lambda prompt: f" {prompt[-1].content.split()[1][:-1]}")
    report = asked(Exact(), questions, model)
    assert report.main.value == 1.0


def test_the_same_questions_make_the_same_suite_and_another_scorer_another():
    one, two = (
        question_suite("sums", Generate(scorer=scorer), QUESTIONS) for scorer in (Number(), Number(tolerance=1))
    )
    again = question_suite("sums", Generate(scorer=Number()), QUESTIONS)
    assert one == again
    assert one.id != two.id
    with pytest.raises(RequestError, match="not the rows"):
        generate(ScriptedModel(), ME, one, QUESTIONS[1:])


def test_a_local_model_stops_at_a_stop_string_and_draws_by_its_seed(tiny_base):
    from llmops.lm.model import LocalModel

    model = LocalModel.open(tiny_base, None, "float32", "cpu", "chatml", 1)
    prompts = [(Message(role="user", content=text),) for text in ("the cat", "a much longer dog sat on the mat", "x")]
    long = Sampling(max_tokens=24, temperature=1.0, seed=5)
    drawn = model.reply(prompts, long)
    assert drawn == model.reply(prompts, long)
    assert drawn != model.reply(prompts, long.replace(seed=6))
    stop = drawn[0][6:8]
    cut = model.reply(prompts, long.replace(stop=(stop,)))
    assert cut[0] == drawn[0].partition(stop)[0]
    assert all(stop not in one for one in cut)


@pytest.mark.parametrize("claim", CLAIMS)
def test_metrics_equal_the_libraries_that_papers_quote(claim):
    result = check(claim, CLAIMS[claim], 200)
    assert result.passed, result


def test_a_faulty_metric_is_found():
    claim = CLAIMS["macro F1 is scikit-learn's"]
    broken = claim._replace(ours=claim.faults[0])
    assert not check("broken", broken, 30).passed


# Suites from files.


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


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"question": "Who?", "answer": ""}, "line 2: empty"),
        ({"question": "", "answer": "x"}, "line 2: empty"),
        ("{broken", "line 2"),
        ({"question": "Who?"}, "line 2"),
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
    for wrong in ("inclodes", "nowhere.py:mark", "nowhere.json"):
        with pytest.raises(RequestError):
            described(wrong)
    with pytest.raises(RequestError, match="no function 'other'"):
        load_function(file, "other")
    file.write_text("1/0")
    with pytest.raises(RequestError, match="ZeroDivisionError"):
        load_function(file, "mark")


def test_a_function_from_python_marks_without_a_file():
    asked_of = Function(function="here:mark")
    report = asked(asked_of, tools=Tools(functions={"here:mark": lambda answer, question: len(answer)}))
    assert report.main.value > 5
    assert Includes() != Exact()
