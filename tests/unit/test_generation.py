"""Questions are answered in the model's own words, marked by a scorer, and kept with what the scorer saw."""

from __future__ import annotations

import pytest

from llmops.core.dataset import Message
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.report import EvalReport, Subject
from llmops.core.scorers import Bleu, Exact, Function, Includes, Judge, Number
from llmops.core.serving import Sampling
from llmops.core.suites import Generate, Question, make_question
from llmops.evals.generate import generate
from llmops.evals.prove_metrics import CLAIMS, check
from llmops.evals.scorers.mark import Tools
from llmops.evals.suite import question_suite
from llmops.experiments.compare import compare
from llmops.lm.scripted import ScriptedModel

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


def test_one_answer_is_no_certain_bleu():
    report = asked(Bleu(), [chat("Say it", "the cat sat down")], ScriptedModel(replies=lambda prompt: "no"))
    for score in report.scores.values():
        assert score.low == score.value == 0.0
        assert score.high > 70


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


def test_a_function_from_python_marks_without_a_file():
    asked_of = Function(function="here:mark")
    report = asked(asked_of, tools=Tools(functions={"here:mark": lambda answer, question: len(answer)}))
    assert report.main.value > 5
    assert Includes() != Exact()
