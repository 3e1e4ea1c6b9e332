"""A report says what a model can do: each score with n and an interval, every answer kept, the same one each time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from llmops.core.context import silent
from llmops.core.dataset import DatasetManifest, Message, Row
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.report import EvalReport, Score, Subject, Suite
from llmops.core.tasks import Classify, Reply
from llmops.core.value import canonical_json
from llmops.evals.evaluate import evaluate, grade_labels, grade_picks, softmax
from llmops.evals.score import Failed, ask_each
from llmops.evals.suite import make_suite, reply_options
from llmops.lm.scripted import ScriptedModel

TONE = Classify(question="Positive or negative?", labels=("positive", "negative"))
TUNED = Subject(kind="tuned", ref="tone:1")


def manifest(task, rows: Sequence[Row]) -> DatasetManifest:
    return DatasetManifest(
        name="tone",
        task=task,
        sources=(),
        rows_read=len(rows),
        rows_train=0,
        rows_heldout=len(rows),
        dropped={},
        files={},
    )


def labelled(texts: Sequence[tuple[str, str]], domains: Sequence[str] = ("tweets", "nyt")) -> list[Row]:
    return [
        Row(
            id=f"row{place}",
            messages=(Message(role="user", content=text), Message(role="assistant", content=label)),
            text=text,
            label=label,
            fields={"domain": domains[place % len(domains)]},
            group=f"row{place}",
            source="here",
            line=place + 1,
        )
        for place, (text, label) in enumerate(texts)
    ]


def talk(place: int, said: str, reply: str, opening: str = "weather", group: str | None = None) -> Row:
    return Row(
        id=f"talk{place}",
        messages=(Message(role="user", content=said), Message(role="assistant", content=reply)),
        text=said,
        fields={"opening": opening},
        group=group or f"talk{place}",
        source="here",
        line=place + 1,
    )


TEXTS = [("so good", "positive"), ("so bad", "negative")] * 10 + [("bad, they say, yet good", "positive")]
ROWS = labelled([(f"{text} {place}", label) for place, (text, label) in enumerate(TEXTS)])
SUITE = make_suite(manifest(TONE, ROWS), TONE, ROWS, ("domain",))


def by_first_word(prompt, reply: str) -> float:
    """Sure of "positive" where "good" comes before "bad"; says nothing sensible otherwise."""
    text = prompt[-1].content
    good = text.find("good") if "good" in text else 10**6
    bad = text.find("bad") if "bad" in text else 10**6
    return -0.1 if (reply == "positive") == (good < bad) else -3.0


def test_labels_are_classified_by_likelihood_and_every_answer_is_kept():
    report = evaluate(ScriptedModel(logprob=by_first_word), TUNED, SUITE, ROWS, TONE, silent)
    assert report.main.metric == "accuracy"
    assert report.main.value == pytest.approx(20 / 21)
    assert report.main.low < report.main.value < report.main.high
    assert report.main.n == len(report.answers) == 21
    wrong = [answer for answer in report.answers if answer.marks["accuracy"] == 0.0]
    assert [(answer.prompt, answer.expected, answer.answered) for answer in wrong] == [
        ("bad, they say, yet good 20", "positive", "negative")
    ]
    assert report.answers[0].probability == pytest.approx(1 / (1 + math.exp(-2.9)))
    assert set(report.scores) == {"accuracy", "macro_f1"}


def test_slices_add_up_to_the_whole():
    score = evaluate(ScriptedModel(logprob=by_first_word), TUNED, SUITE, ROWS, TONE, silent).main
    assert list(score.slices) == ["domain=nyt", "domain=tweets"]
    assert sum(part.n for part in score.slices.values()) == score.n
    assert sum(part.n * part.value for part in score.slices.values()) == pytest.approx(score.n * score.value)
    assert score.slices["domain=nyt"].value == 1.0
    assert score.slices["domain=nyt"].low < 1.0
    assert all(part.low <= part.value <= part.high for part in score.slices.values())


def test_one_forward_pass_is_asked_for_each_row():
    class Counting(ScriptedModel):
        asked = 0

        def probe(self, prompts, labels, track=silent):
            Counting.asked += len(prompts)
            return super().probe(prompts, labels, track)

    evaluate(Counting(logprob=by_first_word), TUNED, SUITE, ROWS, TONE, silent)
    assert Counting.asked == len(ROWS)


def test_the_same_inputs_give_the_same_report_and_other_answers_another():
    first, again = (evaluate(ScriptedModel(logprob=by_first_word), TUNED, SUITE, ROWS, TONE, silent) for _ in range(2))
    assert first.id == again.id
    assert first == EvalReport.model_validate(first.to_json())
    other = evaluate(ScriptedModel(logprob=lambda prompt, reply: -1.0), TUNED, SUITE, ROWS, TONE, silent)
    assert other.id != first.id


def test_a_wrong_order_of_labels_is_seen_in_the_score():
    probabilities = np.array([[0.9, 0.1] if row.label == "positive" else [0.1, 0.9] for row in ROWS])
    right = grade_labels(TUNED, SUITE, ROWS, ("positive", "negative"), probabilities)
    turned = grade_labels(TUNED, SUITE, ROWS, ("negative", "positive"), probabilities)
    assert (right.main.value, turned.main.value) == (1.0, 0.0)


def test_labels_of_another_task_or_a_missing_column_are_refused():
    with pytest.raises(RequestError, match="'negative' that was not asked for"):
        grade_labels(TUNED, SUITE, ROWS, ("positive", "neutral"), np.full((21, 2), 0.5))
    with pytest.raises(RequestError, match="21 rows and 2 labels"):
        grade_labels(TUNED, SUITE, ROWS, TONE.labels, np.full((20, 2), 0.5))


def test_a_suite_is_named_by_its_rows_in_their_order():
    same = make_suite(manifest(TONE, ROWS), TONE, list(ROWS), ("domain",))
    assert same == SUITE
    assert same.id == SUITE.id
    turned = make_suite(manifest(TONE, ROWS), TONE, ROWS[::-1], ("domain",))
    fewer = make_suite(manifest(TONE, ROWS), TONE, ROWS[:-1], ("domain",))
    assert len({SUITE.rows_sha256, turned.rows_sha256, fewer.rows_sha256}) == 3


def test_rows_that_are_not_the_suites_are_refused():
    model = ScriptedModel(logprob=by_first_word)
    for rows in (ROWS[:-1], ROWS[::-1]):
        with pytest.raises(RequestError, match="are not the rows of the suite"):
            evaluate(model, TUNED, SUITE, rows, TONE, silent)


def test_a_suite_without_rows_with_a_double_row_or_an_unknown_slice_is_refused():
    with pytest.raises(RequestError, match="no rows"):
        make_suite(manifest(TONE, []), TONE, [], ())
    with pytest.raises(RequestError, match="same id"):
        make_suite(manifest(TONE, ROWS), TONE, [ROWS[0], ROWS[0]], ())
    with pytest.raises(RequestError, match="'domian'"):
        make_suite(manifest(TONE, ROWS), TONE, ROWS, ("domian",))


def test_a_row_the_model_fails_on_is_a_wrong_answer_with_its_error():
    def fragile(prompt, reply: str) -> float:
        if prompt[-1].content == ROWS[3].text:
            raise LlmopsError("the row is too long", "shorten it")
        return math.nan if prompt[-1].content == ROWS[4].text else by_first_word(prompt, reply)

    report = evaluate(ScriptedModel(logprob=fragile), TUNED, SUITE, ROWS, TONE, silent)
    assert report.main.value == pytest.approx(18 / 21)
    assert report.answers[3].fields["error"] == "the row is too long"
    assert report.answers[4].fields["error"] == "the model gave no finite probability"
    assert [report.answers[place].marks["accuracy"] for place in (3, 4)] == [0.0, 0.0]
    assert [report.answers[place].answered for place in (3, 4)] == ["", ""]
    assert "error" not in report.answers[0].fields
    canonical_json(report.to_json())


def test_a_model_that_answers_nothing_is_an_error_and_not_a_zero():
    with pytest.raises(LlmopsError, match="none of 21 rows"):
        evaluate(ScriptedModel(logprob=lambda prompt, reply: math.nan), TUNED, SUITE, ROWS, TONE, silent)

    def broken(prompt, reply: str) -> float:
        raise RuntimeError("out of memory")

    with pytest.raises(LlmopsError, match="RuntimeError: out of memory"):
        evaluate(ScriptedModel(logprob=broken), TUNED, SUITE, ROWS, TONE, silent)


def test_probabilities_that_underflow_do_not_become_nan():
    assert softmax(np.array([-math.inf, -5.0])).tolist() == [0.0, 1.0]
    assert softmax(np.array([-math.inf, -math.inf])).tolist() == [0.5, 0.5]
    assert softmax(np.array([-4000.0, -4001.0])) == pytest.approx([0.7311, 0.2689], abs=1e-4)
    assert np.isnan(softmax(np.array([math.nan, 0.0]))).any()


TALK = Reply(measures=("bits_per_byte", "pick_reply", "exact_match"), opening="opening")
TALKS = [talk(place, f"question {place}", f"answer number {place}") for place in range(12)]
TALKS += [talk(place, f"ask {place}", f"réponse {place}", opening="france") for place in range(12, 18)]
TALK_SUITE = make_suite(manifest(TALK, TALKS), TALK, TALKS, ("opening",))


def knows_the_number(prompt, reply: str) -> float:
    """One bit a byte; 4 nats more where the reply has the number of the question."""
    said = prompt[-1].content.split()[-1] if prompt else None
    return -math.log(2) * len(reply.encode()) + (4.0 if reply.rsplit(maxsplit=1)[-1] == said else 0.0)


def test_bits_per_byte_counts_bytes_and_not_characters():
    task = Reply(measures=("bits_per_byte",))
    suite = make_suite(manifest(task, TALKS), task, TALKS, ("opening",))
    report = evaluate(ScriptedModel(), TUNED, suite, TALKS, task, silent)
    score = report.main
    assert (score.value, score.low, score.high, score.n) == pytest.approx((1.0, 1.0, 1.0, 18))
    assert report.answers[12].weights == {"bits_per_byte": len("réponse 12".encode())}
    total = sum(answer.marks["bits_per_byte"] * answer.weights["bits_per_byte"] for answer in report.answers)
    assert total == pytest.approx(sum(len(row.reply.encode()) for row in TALKS))


def test_replies_are_measured_by_everything_the_task_asks_for():
    model = ScriptedModel(replies=lambda prompt: "  ANSWER number 3 ", logprob=knows_the_number)
    report = evaluate(model, TUNED, TALK_SUITE, TALKS, TALK, silent)
    assert list(report.scores) == ["bits_per_byte", "pick_reply", "exact_match"]
    assert report.main.value < 1.0
    assert report.scores["pick_reply"].value == 1.0
    assert report.scores["exact_match"].value == pytest.approx(1 / 18)
    assert report.answers[3].marks["exact_match"] == 1.0
    assert report.answers[4].answered.strip() == "ANSWER number 3"
    assert set(report.main.slices) == {"opening=weather", "opening=france"}


def test_a_reply_that_is_likely_without_its_context_is_not_picked_for_that():
    favourite = TALKS[0].reply

    def fond_of_one(prompt, reply: str) -> float:
        return knows_the_number(prompt, reply) + (50.0 if reply == favourite else 0.0)

    report = evaluate(ScriptedModel(logprob=fond_of_one), TUNED, TALK_SUITE, TALKS, TALK, silent)
    assert report.scores["pick_reply"].value == 1.0


def test_a_model_without_a_clue_picks_by_chance():
    many = [talk(place, f"question {place}", f"answer number {place}") for place in range(400)]
    task = Reply(measures=("pick_reply",))
    suite = make_suite(manifest(task, many), task, many, ())
    score = evaluate(ScriptedModel(), TUNED, suite, many, task, silent).main
    assert score.low < 0.25 < score.high


def test_an_underflow_or_a_failure_in_a_reply_costs_bits_and_makes_no_nan():
    def odd(prompt, reply: str) -> float:
        if reply == TALKS[0].reply:
            return -math.inf
        if prompt and prompt[-1] == TALKS[1].messages[0]:
            raise ValueError("cannot read this")
        if reply == TALKS[2].reply:
            return math.nan
        return knows_the_number(prompt, reply)

    report = evaluate(ScriptedModel(logprob=odd), TUNED, TALK_SUITE, TALKS, TALK, silent)
    canonical_json(report.to_json())
    assert report.answers[0].marks["bits_per_byte"] > 8.0
    assert report.answers[1].marks["bits_per_byte"] == 8.0
    assert report.answers[1].marks["pick_reply"] == 0.0
    assert report.answers[1].fields["error"] == "ValueError: cannot read this"
    assert report.answers[2].marks["bits_per_byte"] == 8.0
    assert report.answers[2].fields["error"] == "the model gave no finite probability"


def test_the_longest_expected_answer_bounds_the_generated_ones():
    asked = []

    class Listening(ScriptedModel):
        def reply(self, prompts, sampling, track=silent):
            asked.append(sampling)
            return super().reply(prompts, sampling, track)

    task = Reply(measures=("exact_match",))
    suite = make_suite(manifest(task, TALKS), task, TALKS, ())
    evaluate(Listening(), TUNED, suite, TALKS, task, silent)
    assert [(one.temperature, one.max_tokens) for one in asked] == [(0.0, 4)]


def test_options_hold_the_real_reply_once_among_replies_of_the_same_opening():
    options = reply_options(TALKS, "opening")
    for row, some in zip(TALKS, options, strict=True):
        assert some.count(row.reply) == 1
        assert len(set(some)) == 4
        mates = {other.reply for other in TALKS if other.fields == row.fields}
        assert set(some) <= mates
    assert {some.index(row.reply) for row, some in zip(TALKS, options, strict=True)} == {0, 1, 2, 3}


def test_options_do_not_hang_on_the_order_of_rows():
    forwards = dict(zip((row.id for row in TALKS), reply_options(TALKS, "opening"), strict=True))
    backwards = dict(zip((row.id for row in TALKS[::-1]), reply_options(TALKS[::-1], "opening"), strict=True))
    assert forwards == backwards


def test_options_come_from_other_conversations_and_are_never_the_same_text_twice():
    rows = [talk(place, f"turn {place}", f"mine {place}", group="one") for place in range(6)]
    rows += [
        talk(10 + place, f"turn {10 + place}", text)
        for place, text in enumerate(["Yes", "yes ", "No", "Maybe", "mine 0"])
    ]
    options = reply_options(rows, "opening")
    for row, some in zip(rows, options, strict=True):
        folded = [text.strip().lower() for text in some]
        assert len(set(folded)) == len(folded)
        if row.group == "one":
            assert not {text for text in some if text.startswith("mine")} - {row.reply, "mine 0"}


def test_a_rare_opening_takes_its_wrong_replies_from_any_row():
    rows = [*TALKS, talk(90, "a", "all alone", opening="rare")]
    some = reply_options(rows, "opening")[-1]
    assert "all alone" in some
    assert len(some) == 4


def test_another_answer_to_the_very_same_prompt_is_not_called_wrong():
    rows = [talk(place, "how are you?", f"fine {place}") for place in range(4)]
    rows += [talk(10 + place, f"question {place}", f"answer {place}") for place in range(4)]
    some = reply_options(rows, "opening")[0]
    assert [text for text in some if text.startswith("fine")] == ["fine 0"]


def test_too_few_different_replies_are_refused():
    with pytest.raises(RequestError, match="needs 4 different replies, and there are 3"):
        reply_options(TALKS[:3], "opening")


def test_picks_made_elsewhere_are_graded_like_ours():
    options = reply_options(TALKS, "opening")
    scores = [[float(text == row.reply) for text in some] for row, some in zip(TALKS, options, strict=True)]
    report = grade_picks(Subject(kind="tfidf", ref="cosine"), TALK_SUITE, TALKS, options, scores)
    assert report.scores["pick_reply"].value == 1.0
    assert set(report.scores) == {"pick_reply"}
    shifted = [row[1:] + row[:1] for row in scores]
    assert grade_picks(TUNED, TALK_SUITE, TALKS, options, shifted).scores["pick_reply"].value == 0.0
    with pytest.raises(RequestError, match="do not fit"):
        grade_picks(TUNED, TALK_SUITE, TALKS, options, scores[:-1])


def test_a_suite_made_for_labels_does_not_measure_replies():
    wrong = Suite(dataset="ds-1", rows_sha256=TALK_SUITE.rows_sha256, measures=("accuracy",), slices=())
    with pytest.raises(RequestError, match="does not measure a reply"):
        evaluate(ScriptedModel(), TUNED, wrong, TALKS, TALK, silent)


def test_the_scripted_model_speaks_and_shows_its_tokens():
    model = ScriptedModel(replies=lambda prompt: "one two", logprob=lambda prompt, reply: -3.0)
    views = model.inspect_reply(TALKS[0].prompt, "one two")
    assert [view.text for view in views] == ["one", "two", ""]
    assert views[0].probability == pytest.approx(math.exp(-1.0))


def test_the_main_score_is_the_first_that_there_is_where_the_deciding_measure_is_not() -> None:
    score = Score(metric="pick_reply", value=0.5, low=0.4, high=0.6, n=10)
    suite = SUITE.replace(measures=("bits_per_byte", "pick_reply"))
    assert EvalReport(subject=TUNED, suite=suite, scores={"pick_reply": score}, answers=()).main == score


def test_one_row_that_fails_costs_a_few_more_batches_and_not_one_for_each_row():
    asked = []

    def ask(items, track):
        asked.append(len(items))
        if 700 in items:
            raise ValueError("too long")
        return [item * 2 for item in items]

    found = ask_each(ask, list(range(1000)), silent)
    assert found[700] == Failed("ValueError: too long")
    assert [one for place, one in enumerate(found) if place != 700] == [2 * one for one in range(1000) if one != 700]
    assert len(asked) <= 2 * 11
