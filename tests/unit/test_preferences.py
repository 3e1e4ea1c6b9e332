"""Whether a model sides with people: counted on pairs and on thumbs, with ties and failures where they belong."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from llmops.core.dataset import DatasetManifest, Message, Row
from llmops.core.errors import RequestError
from llmops.core.report import EvalReport, Subject
from llmops.core.tasks import Continue, Measure, Reply
from llmops.evals.evaluate import evaluate
from llmops.evals.suite import make_suite
from llmops.lm.scripted import Prompt, ScriptedModel, one_bit_a_byte

PAIRS = {"good": "bad", "right": "wrong", "warm": "cold", "kind": "rude"}


def pair(number: int, chosen: str, rejected: str | None = None, liked: bool | None = None) -> Row:
    messages = (Message(role="user", content=f"say {number}"), Message(role="assistant", content=chosen))
    return Row(
        id=f"r{number}", messages=messages, text=f"say {number}", rejected=rejected, liked=liked, group=str(number),
        source="s", line=number,
    )  # fmt: skip


def report(model: ScriptedModel, rows: Sequence[Row], *measures: Measure) -> EvalReport:
    task = Reply(measures=measures)
    manifest = DatasetManifest(
        name="sides", task=task, sources=(), rows_read=len(rows), rows_train=0, rows_heldout=len(rows), dropped={},
        files={},
    )  # fmt: skip
    suite = make_suite(manifest, task, rows, ())
    return evaluate(model, Subject(kind="tuned", ref="r"), suite, rows, task)


class Base(ScriptedModel):
    """A base: it has nothing to be compared with."""

    def base_logprobs(self, *_: object) -> None:  # type: ignore[override]
        return None


def likes(*words: str, by: float = 5.0):  # type: ignore[no-untyped-def]
    """A model that finds some replies likelier than `one_bit_a_byte` does."""

    def logprob(prompt: Prompt, reply: str) -> float:
        return one_bit_a_byte(prompt, reply) + (by if reply in words else 0.0)

    return logprob


def test_preference_counts_the_pairs_whose_chosen_reply_is_likelier_as_a_whole() -> None:
    rows = [pair(number, chosen, rejected) for number, (chosen, rejected) in enumerate(PAIRS.items())]
    found = report(ScriptedModel(logprob=likes("good", "right", "cold")), rows, "preference", "bits_per_byte")
    # "kind" and "rude" are equally long, so equally likely: a tie, which counts half.
    assert [answer.marks["preference"] for answer in found.answers] == [1.0, 1.0, 0.0, 0.5]
    assert found.main.value == pytest.approx(2.5 / 4)
    assert found.answers[0].answered == "good" and found.answers[2].answered == "cold"


def test_implicit_reward_counts_what_was_gained_and_a_base_has_gained_nothing() -> None:
    # The chosen reply is far longer, so far less likely; but training made it likelier than it was.
    rows = [
        pair(number, f"a very long {chosen} reply", rejected) for number, (chosen, rejected) in enumerate(PAIRS.items())
    ]
    tuned = ScriptedModel(logprob=likes(*(row.reply for row in rows[:3]), "rude"))
    found = report(tuned, rows, "reward_accuracy", "preference")
    assert found.scores["preference"].value == 0.0
    assert [answer.marks["reward_accuracy"] for answer in found.answers] == [1.0, 1.0, 1.0, 0.0]
    assert report(Base(), rows, "reward_accuracy").main.value == 0.5


def test_thumbs_are_set_against_the_median_gain() -> None:
    rows = [
        pair(number, word, liked=number < 4) for number, word in enumerate(("a", "b", "c", "d", "e", "f", "g", "h"))
    ]
    assert report(ScriptedModel(logprob=likes("a", "b", "c", "d")), rows, "reward_accuracy").main.value == 1.0
    # All have gained, the liked ones more: the sign of a gain alone would say 4 of 8.
    more = likes("a", "b", "c", "d")

    def all_gain(prompt: Prompt, reply: str) -> float:
        return more(prompt, reply) + 2.0

    assert report(ScriptedModel(logprob=all_gain), rows, "reward_accuracy").main.value == 1.0
    assert report(ScriptedModel(logprob=likes("e", "f", "g", "h")), rows, "reward_accuracy").main.value == 0.0
    assert report(Base(), rows, "reward_accuracy").main.value == 0.5


def test_a_row_that_the_model_fails_on_is_one_it_got_wrong() -> None:
    rows = [pair(number, chosen, rejected) for number, (chosen, rejected) in enumerate(PAIRS.items())]
    plain = likes(*PAIRS)

    def failing(prompt: Prompt, reply: str) -> float:
        if reply == "wrong":
            raise ValueError("too long for me")
        return plain(prompt, reply)

    found = report(ScriptedModel(logprob=failing), rows, "preference")
    assert [answer.marks["preference"] for answer in found.answers] == [1.0, 0.0, 1.0, 1.0]
    assert "too long for me" in found.answers[1].fields["error"]


def test_what_cannot_be_compared_is_refused() -> None:
    thumbs, plain = [pair(1, "a", liked=True), pair(2, "b", liked=False)], [pair(1, "a"), pair(2, "b")]
    with pytest.raises(RequestError, match="compares pairs"):
        report(ScriptedModel(), thumbs, "preference")
    with pytest.raises(RequestError, match="needs pairs or thumbs"):
        report(ScriptedModel(), plain, "reward_accuracy")


def test_running_text_is_measured_in_bits_a_byte() -> None:
    rows = [Row(id=f"t{n}", messages=(), text="some text " * n, group=str(n), source="s", line=n) for n in (1, 2, 3)]
    manifest = DatasetManifest(
        name="t", task=Continue(), sources=(), rows_read=3, rows_train=0, rows_heldout=3, dropped={}, files={}
    )
    suite = make_suite(manifest, Continue(), rows, ())
    found = evaluate(ScriptedModel(), Subject(kind="base", ref="b"), suite, rows, Continue())
    assert found.main.metric == "bits_per_byte" and found.main.value == pytest.approx(1.0)
