"""A scorer reads an answer as a person would, gives no mark where it can tell nothing, and runs nothing it was told."""

from __future__ import annotations

import json
import math
import random
import time
from typing import get_args

import pytest
from pydantic import ValidationError

from llmops.core.errors import RequestError
from llmops.core.scorers import (
    Bleu,
    Chrf,
    Code,
    Exact,
    Function,
    Includes,
    Json,
    Judge,
    Number,
    PickedOption,
    Regex,
    Rouge,
    Schema,
    Scorer,
    measures_of_scorer,
)
from llmops.core.suites import Question, make_question
from llmops.evals.scorers.mark import Marked, Tools
from llmops.evals.scorers.table import SCORERS, marker
from llmops.store.shelf import scorers


def asks(*expected: str, options: tuple[str, ...] = (), text: str = "What is it?") -> Question:
    return make_question(text, expected, options)


def mark(scorer, answer: str, question: Question, **tools) -> Marked:
    return marker(scorer, Tools(**tools))([(answer, question)])[0]


def test_every_scorer_that_a_suite_can_name_is_in_the_table():
    kinds = {kind.model_fields["kind"].default for kind in get_args(get_args(Scorer)[0])}
    assert kinds == set(SCORERS)
    assert {line.name for line in scorers(None)} == kinds


def test_every_measure_of_a_scorer_has_a_metric():
    from llmops.evals.metrics.table import METRICS

    plain = [Exact(), Includes(), Number(), PickedOption(), Json(), Schema(wanted={}), Rouge(), Bleu(), Chrf(), Regex()]
    own = [Code(program="a.py"), Judge(model="a"), Function(function="a.py:f")]
    assert {measure for one in plain + own for measure in measures_of_scorer(one)} <= set(METRICS)


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ("Paris.", "paris", 1),
        ("  the   “Paris” ", "The Paris", 1),
        ("don't", "don’t", 1),
        ("Straße", "STRASSE", 1),
        ("cafe\u0301", "café", 1),
        ("?", "?", 1),
        ("", "?", 0),
        ("3.5", "35", 0),
        ("-5", "5", 0),
        ("C#", "C", 0),
        ("5 %", "5", 0),
        ("Paris, France", "Paris", 0),
        ("", "Paris", 0),
    ],
)
def test_exact_minds_only_what_makes_a_difference(answer, expected, right):
    assert mark(Exact(), answer, asks(expected)).mark == right


def test_half_a_character_is_read_and_not_an_error():
    for scorer in (Exact(), Includes(), Number(), Json(), Regex(pattern="5")):
        assert mark(scorer, "5\ud800", asks("5")).mark in (0, 1)


def test_exact_can_mind_everything():
    assert mark(Exact(folds=()), "paris", asks("Paris")).mark == 0
    assert mark(Exact(folds=("case",)), "paris ", asks("Paris")).mark == 1
    assert mark(Exact(), "b", asks("a", "B")).mark == 1


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ("I think it is Paris, in France.", "paris", 1),
        ("It is New   York!", "new york", 1),
        ("a cathedral", "cat", 0),
        ("concatenate the cat", "cat", 1),
        ("about 15 of them", "5", 0),
        ("version 1.5", "5", 0),
        ("it costs 5.", "5", 1),
        ("答えは東京です", "東京", 1),
        ("nothing", "?", 0),
    ],
)
def test_includes_finds_whole_words(answer, expected, right):
    assert mark(Includes(), answer, asks(expected)).mark == right


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ("The total is 1,234.5 dollars", "1234.5", 1),
        ("about 1e3", "1000", 1),
        ("1 then 2 then 42", "42", 1),
        ("42 then 2", "42", 0),
        ("It is 50 %", "0.5", 1),
        ("It is 50%", "50", 1),
        ("0.5", "50 %", 1),
        ("50 %", "50 %", 1),
        ("5 %", "50 %", 0),
        ("minus: −7", "-7", 1),
        ("3-5", "5", 1),
        ("GPT4", "4", 0),
        ("$1,000,000", "1000000", 1),
        ("1\u202f234", "1234", 1),
        ("1,2 and 3", "3", 1),
        (".5", "0.5", 1),
        ("no idea", "3", 0),
        ("1e999", "3", 0),
        ("41.9999", "42", 0),
    ],
)
def test_number_reads_numbers_as_people_write_them(answer, expected, right):
    assert mark(Number(), answer, asks(expected)).mark == right


def test_number_has_a_tolerance_a_place_and_a_decimal_sign():
    assert mark(Number(tolerance=0.01), "41.995", asks("42")).mark == 1
    assert mark(Number(relative=0.05), "43", asks("42")).mark == 1
    assert mark(Number(take="first"), "42 then 2", asks("42")).mark == 1
    assert mark(Number(decimal=","), "1.234,5", asks("1234,5")).mark == 1
    assert mark(Number(), "about 42, I think", asks("42")).notes == {"scorer_read": "42"}
    assert mark(Number(), "42", asks("forty-two")).mark is None


OPTIONS = (" ice", " ice cream", " a dog", " an apple")


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("B", 1),
        ("b", 1),
        ("(B)", 1),
        ("B) ice cream", 1),
        ("**B.** because it melts", 1),
        ("The answer is B.", 1),
        ("Answer: (b)", 1),
        ("Ice cream.", 1),
        ("I would say ice cream", 1),
        ("B\nA dog would not melt.", 1),
        ("C", 0),
        ("A dog", 0),
        ("ice", 0),
        ("an apple or ice cream", 0),
        ("The answer is Zebra", 0),
        ("", 0),
        ("Q", 0),
        ("B. an apple", 0),
    ],
)
def test_choice_reads_a_letter_or_a_text(answer, right):
    assert mark(PickedOption(), answer, asks(" ice cream", options=OPTIONS)).mark == right


def test_choice_wants_options():
    with pytest.raises(RequestError, match="options"):
        mark(PickedOption(), "B", asks("ice"))


@pytest.mark.parametrize(
    "answer",
    ["", "{", "{'a': 1}", '{"a": NaN}', '{"a": 1, "a": 2}', "[1,]", "[" * 100_000, "[" * 65 + "]" * 65, "1e999", "x"],
)
def test_what_is_no_json_is_none(answer):
    assert mark(Json(), answer, asks("{}")).mark == 0


def test_json_is_any_document_or_the_expected_one():
    assert mark(Json(), '```json\n{"a": 1}\n```', asks("{}")).mark == 1
    assert mark(Json(around="nothing"), '```json\n{"a": 1}\n```', asks("{}")).mark == 0
    wants = Json(wants="expected")
    assert mark(wants, '{"b": [1.0, true], "a": null}', asks('{"a": null, "b": [1, true]}')).mark == 1
    assert mark(wants, '{"a": 1}', asks('{"a": true}')).mark == 0
    assert mark(wants, "{}", asks("no json")).mark is None


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}, "born": {"type": "string", "format": "date"}},
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ('{"name": "Ada", "born": "1815-12-10"}', 1),
        ('{"name": "ada"}', 0),
        ('{"name": "Ada", "born": "tomorrow"}', 0),
        ('{"name": "Ada", "x": 1}', 0),
        ("[]", 0),
        ("Ada", 0),
    ],
)
def test_a_schema_takes_what_fits(answer, right):
    found = mark(Schema(wanted=PERSON), answer, asks("{}"))
    assert found.mark == right
    assert right or found.notes["scorer_read"]


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"$ref": "https://example.org/schema.json"}, "refers to https"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "refers to file"),
        ({"$dynamicRef": "other.json#/a"}, "other.json"),
        ({"format": "moonphase"}, "moonphase"),
        ({"$schema": "https://example.org/mine"}, "example.org/mine"),
        ({"hello": 3}, "nothing in it asks for anything .it holds 'hello'"),
        ({}, "it is empty"),
        ({"type": "thing"}, "thing"),
        ({"pattern": "(?=a)b"}, "regex"),
        ({"patternProperties": {"(a": {}}}, "regex"),
    ],
)
def test_a_schema_that_reaches_out_or_cannot_be_checked_is_refused(wanted, why):
    with pytest.raises(RequestError, match=why):
        marker(Schema(wanted=wanted), Tools())


def test_a_schema_may_refer_to_itself_and_its_patterns_take_linear_time():
    tree = {"$defs": {"node": {"type": "array", "items": {"$ref": "#/$defs/node"}}}, "$ref": "#/$defs/node"}
    assert mark(Schema(wanted=tree), "[[], [[]]]", asks("[]")).mark == 1
    evil = {"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False, "propertyNames": {"pattern": "(a+)+b"}}
    started = time.perf_counter()
    assert mark(Schema(wanted=evil), json.dumps({"a" * 40 + "!": 1}), asks("{}")).mark == 0
    assert time.perf_counter() - started < 2


def test_a_date_and_time_needs_its_offset():
    moment = Schema(wanted={"format": "date-time"})
    assert mark(moment, '"2026-11-26T06:00:00Z"', asks("x")).mark == 1
    assert mark(moment, '"2026-11-26T06:00:00"', asks("x")).mark == 0
    assert mark(moment, '"soon"', asks("x")).mark == 0


@pytest.mark.parametrize(
    ("knobs", "answer", "expected", "right"),
    [
        (Regex(pattern="[0-9]{4}"), "in 1815", "x", 1),
        (Regex(pattern="[0-9]{4}", whole=True), "in 1815", "x", 0),
        (Regex(pattern="#### (.*)"), "so\n#### 42", "42", 1),
        (Regex(pattern="#### (.*)"), "so\n#### 43", "42", 0),
        (Regex(pattern="#### (.*)"), "42", "42", 0),
        (Regex(), "in 1815", "18[0-9]+", 1),
        (Regex(pattern="(a+)+b"), "a" * 5000, "x", 0),
    ],
)
def test_regex_is_found_or_read(knobs, answer, expected, right):
    assert mark(knobs, answer, asks(expected)).mark == right


def test_a_pattern_that_does_not_compile_is_the_persons_or_the_rows():
    with pytest.raises(RequestError, match="RE2"):
        marker(Regex(pattern="(?=a)"), Tools())
    assert mark(Regex(), "a", asks("(")).mark is None


def test_overlap_is_what_the_libraries_say():
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU, CHRF

    draw = random.Random(7)
    words = ["cat", "dog", "sat", "mat", "the", "a", "on", "ran", "house.", "Über"]
    pairs = [
        (" ".join(draw.choices(words, k=draw.randint(0, 9))), " ".join(draw.choices(words, k=5))) for _ in range(50)
    ]
    for said, wanted in pairs:
        question = asks(wanted)
        rouge = RougeScorer(["rougeL"]).score(wanted, said)["rougeL"].fmeasure
        assert mark(Rouge(), said, question).mark == pytest.approx(rouge)
        bleu = BLEU(effective_order=True).sentence_score(said, [wanted]).score
        assert mark(Bleu(), said, question).mark == pytest.approx(bleu)
        assert mark(Chrf(word_order=2), said, question).mark == pytest.approx(
            CHRF(word_order=2).sentence_score(said, [wanted]).score
        )


def test_rouge_sees_words_of_every_script_where_it_is_told_to():
    greek = asks("η γάτα κοιμάται")
    assert mark(Rouge(), "η γάτα κοιμάται", greek).mark == 0
    assert mark(Rouge(words="any"), "η γάτα κοιμάται", greek).mark == 1
    with pytest.raises(ValidationError, match="English"):
        Rouge(words="any", stem=True)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Judge(model="me", prompt="Is it right?"),
        lambda: Judge(model="me", verdicts={"right": 1, "Right": 0}),
        lambda: Judge(model="me", verdicts={"right": 1, "wrong": math.nan}),
        lambda: Number(tolerance=math.inf),
        lambda: Regex(pattern=""),
        lambda: Function(function="mine.py"),
    ],
)
def test_a_scorer_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValidationError):
        wrong()
