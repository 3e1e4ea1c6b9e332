"""Ratings: the number is read from the answer, and what a row costs is a distance with a limit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmops import pipeline
from llmops.core.dataset import DatasetManifest, Message, Row
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.method import LoRA, Training
from llmops.core.recipe import Recipe
from llmops.core.report import EvalReport, Subject, Suite
from llmops.core.sources import Data, Rated, Source
from llmops.core.tasks import Rate
from llmops.evals.evaluate import evaluate
from llmops.evals.ratings import grade_numbers, number_said
from llmops.evals.suite import make_suite, scale_of
from llmops.experiments.compare import compare
from llmops.experiments.pick import pick
from llmops.experiments.ratings import BARE, fit_rater
from llmops.lm.scripted import ScriptedModel
from llmops.store.workspace import Workspace

TASK = Rate(question="How warm?", decimals=1)
TUNED = Subject(kind="tuned", ref="warm:1")
WARMTH = {"hot": 3.0, "mild": 0.5, "icy": -3.0}


def rated(place: int, text: str, number: float) -> Row:
    said = f"{number:.1f}"
    messages = (Message(role="user", content=text), Message(role="assistant", content=said))
    return Row(id=f"r{place}", messages=messages, text=text, label=said, group=str(place), source="s", line=place + 1)


ROWS = [rated(place, f"{word} day {place}", WARMTH[word]) for place, word in enumerate(list(WARMTH) * 8)]


def suite_for(rows: list[Row], scale: float | None) -> Suite:
    made = DatasetManifest(
        name="warm", task=TASK, sources=(), rows_read=len(rows), rows_train=0, rows_heldout=len(rows), dropped={},
        files={},
    )  # fmt: skip
    return make_suite(made, TASK, rows, (), scale)


SUITE = suite_for(ROWS, scale_of(ROWS))


def by_word(text: str) -> str:
    return str(WARMTH[text.split(maxsplit=1)[0]])


def report_of(answer) -> EvalReport:  # type: ignore[no-untyped-def]
    return evaluate(ScriptedModel(lambda prompt: answer(prompt[-1].content)), TUNED, SUITE, ROWS, TASK)


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("3.5", 3.5), (" -2 ", -2.0), ("\u22121.5 stars", -1.5), ("I would say 4 out of 5.", 4.0), ("+.5", 0.5),
        ("7%", 7.0), ("4/5", 4.0), ("2.", 2.0), ("none", None), ("", None), ("the 3rd", None), ("1,5", None),
        ("1.5.2", None), ("x2", None), ("9" * 400, None), ("nan", None), ("\u0663", None), ("version2 is 4", 4.0),
    ],
)  # fmt: skip
def test_the_first_number_of_an_answer_is_read(answer: str, number: float | None) -> None:
    assert number_said(answer) == number


def test_a_right_answer_costs_nothing_and_a_wrong_one_its_distance() -> None:
    assert report_of(by_word).main.value == 0.0
    off = report_of(lambda text: f"about {float(by_word(text)) + 0.5}, I think")
    assert off.main.metric == "absolute_error" and off.main.value == pytest.approx(0.5)
    assert off.main.low <= off.main.value <= off.main.high
    assert {answer.marks["absolute_error"] for answer in off.answers} == {0.5}
    assert off.answers[0].answered == "about 3.5, I think"


def test_no_number_and_a_wild_one_cost_the_whole_scale() -> None:
    assert SUITE.scale == 6.0

    def answer(text: str) -> str:
        return "lovely" if text.endswith(" 0") else "1e999" if text.endswith(" 1") else by_word(text)

    report = report_of(answer)
    assert [one.marks["absolute_error"] for one in report.answers[:3]] == [6.0, 6.0, 0.0]
    assert report.answers[0].fields == {"error": "the answer has no number"}
    wild = report_of(lambda text: "2026" if text.endswith(" 1") else by_word(text))
    assert wild.main.value == pytest.approx(6.0 / len(ROWS))
    mute = report_of(lambda text: "lovely")
    assert (mute.main.value, mute.main.low, mute.main.high) == (6.0, 6.0, 6.0)


def test_a_row_that_the_model_fails_on_costs_the_scale_and_all_of_them_are_an_error() -> None:
    def broken(text: str) -> str:
        if text.endswith(" 2"):
            raise ValueError("out of paper")
        return by_word(text)

    report = report_of(broken)
    assert report.main.value == pytest.approx(6.0 / len(ROWS))
    assert "out of paper" in report.answers[2].fields["error"]
    with pytest.raises(LlmopsError, match="answered none of 24 rows"):
        report_of(lambda text: {}[text])


def test_numbers_made_elsewhere_are_graded_alike_and_must_fit() -> None:
    numbers = [float(str(row.label)) + 1 for row in ROWS]
    report = grade_numbers(Subject(kind="tfidf", ref="pl-1"), SUITE, ROWS, numbers)
    assert report.main.value == pytest.approx(1.0) and report.answers[0].answered == "4"
    assert grade_numbers(TUNED, SUITE, ROWS, [float("nan"), *numbers[1:]]).answers[0].marks == {"absolute_error": 6.0}
    with pytest.raises(RequestError, match="24 rows, but 23 numbers"):
        grade_numbers(TUNED, SUITE, ROWS, numbers[1:])
    with pytest.raises(LlmopsError, match="not one"):
        grade_numbers(TUNED, SUITE, ROWS, [float("inf")] * 24)
    with pytest.raises(RequestError, match="no scale"):
        grade_numbers(TUNED, suite_for(ROWS, None), ROWS, numbers)


def test_ratings_that_are_all_the_same_have_no_scale() -> None:
    with pytest.raises(RequestError, match="one and the same"):
        scale_of([rated(place, "x", 2.0) for place in range(3)])


def test_a_suite_without_a_scale_keeps_the_id_it_always_had() -> None:
    plain = Suite(dataset="ds-1", rows_sha256="0" * 64, measures=("accuracy",), slices=())
    assert "scale" not in plain.to_json() and plain.id == "su-af6ab61ec273"
    assert SUITE.to_json()["scale"] == 6.0 and Suite.model_validate(SUITE.to_json()) == SUITE


def test_the_cheap_rows_learn_what_words_say_and_the_mean_does_not() -> None:
    asked = ["a hot evening", "an icy evening"]
    found = {kind: fit_rater(kind, ROWS).numbers(asked).tolist() for kind in BARE}
    assert found["mean"] == pytest.approx([1 / 6] * 2)
    assert found["tfidf"][0] > 1 and found["tfidf"][1] < -1
    blank = [rated(place, "!", float(place)) for place in range(3)]
    assert fit_rater("tfidf", blank).numbers(["!"]).tolist() == [1.0]


def test_a_smaller_error_is_better_and_the_margin_follows_the_scale() -> None:
    near, far = (
        grade_numbers(Subject(kind=kind, ref=kind), SUITE, ROWS, [float(str(row.label)) + off for row in ROWS])
        for kind, off in (("tfidf", 0.1), ("mean", 1.0))
    )
    found = compare(far, near)
    assert found.verdict == "better" and found.overall.delta == pytest.approx(0.9)
    assert found.overall.test == "bootstrap"  # marks of 1.0 are distances here, not right answers
    picked = pick([near, far])
    assert picked.subject.kind == "tfidf" and picked.margin == pytest.approx(0.06)


def test_a_rating_is_learned_measured_and_shown_beside_its_cheap_rows(
    workspace: Workspace, tiny_base: Path, tmp_path: Path
) -> None:
    lines = [json.dumps({"text": f"{row.text} {place}", "number": row.label}) for place, row in enumerate(ROWS * 3)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    recipe = Recipe(
        name="warm",
        base=f"path:{tiny_base}",
        data=Data(sources=(Source(from_=f"path:{tmp_path / 'rows.jsonl'}", shape=Rated()),), heldout_share=0.3),
        task=TASK,
        method=LoRA(rank=4),
        training=Training(epochs=1, learning_rate=0.01),
    )
    outcome = pipeline.run(recipe, workspace)
    assert list(outcome.scores) == ["mean", "tfidf", "base", "tuned"]
    assert outcome.scores["tfidf"].high < outcome.scores["mean"].low
    assert {line.metric for line in outcome.comparisons} == {"absolute_error"}
    assert outcome.pick.subject.kind in ("tfidf", "tuned")
    assert pipeline.evaluate(outcome.tuned_version, workspace).main.value == outcome.scores["tuned"].value
