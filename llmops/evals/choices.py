"""Questions answered by likelihood: multiple choice, labels, and what a text costs. N questions.

A question that the model fails on is data: its answer says why, and it is wrong, or costs `GUESSED_BITS` a byte.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from llmops.core.context import Track, silent
from llmops.core.report import EvalReport, Subject, Suite
from llmops.core.suites import Question
from llmops.evals import intervals
from llmops.evals.evaluate import GUESSED_BITS, SMALLEST_NATS, softmax
from llmops.evals.score import Failed, Measured, Said, ask_each, asked_question, check_some_answered, grade
from llmops.evals.suite import check_rows

if TYPE_CHECKING:
    from llmops.lm.ports import ScoringModel

Nats = list[float] | Failed


def choose(
    model: ScoringModel, subject: Subject, suite: Suite, questions: Sequence[Question], track: Track = silent
) -> EvalReport:
    """Multiple choice: the likeliest option (`accuracy`), and the likeliest for its length (`accuracy_norm`).

    The length is in characters without the space in front, as in lm-eval's acc_norm. The first of equals is chosen.
    """
    check_rows(suite, questions)
    found = _option_nats(model, questions, track)
    rates: list[Nats] = [
        one
        if isinstance(one, Failed)
        else [nats / len(option.strip(" ") or option) for nats, option in zip(one, question.options, strict=True)]
        for one, question in zip(found, questions, strict=True)
    ]
    plain, norm = _picked(questions, found), _picked(questions, rates)
    measured = [
        Measured("accuracy", plain, [1] * len(plain), [float(mark) for mark in plain]),
        Measured("accuracy_norm", norm, [1] * len(norm), [float(mark) for mark in norm]),
    ]
    return grade(subject, suite, [asked_question(one) for one in questions], measured, _said(questions, found))


def label(
    model: ScoringModel, subject: Subject, suite: Suite, questions: Sequence[Question], track: Track = silent
) -> EvalReport:
    """Labels: the likeliest option is the label (`accuracy`), every label counting alike in `macro_f1`."""
    check_rows(suite, questions)
    found = _option_nats(model, questions, track)
    labels = list(dict.fromkeys(option for question in questions for option in question.options))
    truth = [labels.index(question.expected[0]) for question in questions]
    best = [
        -1 if isinstance(one, Failed) else labels.index(question.options[int(np.argmax(one))])
        for one, question in zip(found, questions, strict=True)
    ]
    marks = [float(index == true) for index, true in zip(best, truth, strict=True)]
    measured = [Measured("accuracy", best, truth, marks), Measured("macro_f1", best, truth)]
    return grade(subject, suite, [asked_question(one) for one in questions], measured, _said(questions, found))


def read(
    model: ScoringModel, subject: Subject, suite: Suite, questions: Sequence[Question], track: Track = silent
) -> EvalReport:
    """What the expected text costs behind the question's: `bits_per_byte`, and `perplexity` per token of the model.

    A text behind nothing is read as running text, in windows where it is long. Marks of perplexity are its logarithm,
    nats per token, so that differences of two models add up.
    """
    check_rows(suite, questions)
    texts = [question.expected[0] for question in questions]
    found: list[tuple[float, int] | Failed] = [Failed("not asked")] * len(questions)
    bare = [place for place, question in enumerate(questions) if not question.asked]
    behind = [place for place, question in enumerate(questions) if question.asked]
    for place, one in zip(bare, ask_each(model.text_logprobs, [texts[place] for place in bare], track), strict=True):
        found[place] = one
    asked = [(questions[place].text or questions[place].messages, (texts[place],)) for place in behind]
    for place, some in zip(behind, ask_each(model.option_logprobs, asked, track), strict=True):
        found[place] = some if isinstance(some, Failed) else some[0]
    check_some_answered(found)
    said = [Said(error=one.why) if isinstance(one, Failed) else Said() for one in found]
    return grade(subject, suite, [asked_question(one) for one in questions], _costs(texts, found), said)


def _costs(texts: Sequence[str], found: Sequence[tuple[float, int] | Failed]) -> list[Measured]:
    sizes = [max(1, len(text.encode("utf-8", "surrogatepass"))) for text in texts]
    nats = [
        GUESSED_BITS * math.log(2) * size if isinstance(one, Failed) else -max(one[0], SMALLEST_NATS * one[1])
        for one, size in zip(found, sizes, strict=True)
    ]
    tokens = [size if isinstance(one, Failed) else max(1, one[1]) for one, size in zip(found, sizes, strict=True)]
    bits = [one / math.log(2) for one in nats]
    rates = [each / size for each, size in zip(bits, sizes, strict=True)]
    costs = [each / count for each, count in zip(nats, tokens, strict=True)]

    def interval(places: Sequence[int]) -> tuple[float, float]:
        low, high = intervals.bootstrap([costs[place] for place in places], [tokens[place] for place in places])
        return math.exp(low), math.exp(high)

    return [
        Measured("bits_per_byte", bits, sizes, rates, [float(size) for size in sizes]),
        Measured("perplexity", nats, tokens, costs, [float(count) for count in tokens], interval=interval),
    ]


def _option_nats(model: ScoringModel, questions: Sequence[Question], track: Track) -> list[Nats]:
    """The log-probability (nats) of every option of every question."""
    asked = [(question.messages or question.text, question.options) for question in questions]
    found = ask_each(model.option_logprobs, asked, track)
    nats: list[Nats] = [one if isinstance(one, Failed) else [total for total, _ in one] for one in found]
    nats = [
        one if isinstance(one, Failed) or np.isfinite(one).all() else Failed("an option has no finite probability")
        for one in nats
    ]
    check_some_answered(nats)
    return nats


def _picked(questions: Sequence[Question], scores: Sequence[Nats]) -> list[int]:
    """1 where the highest score is that of a right option, else 0."""
    return [
        int(not isinstance(one, Failed) and question.options[int(np.argmax(one))] in question.expected)
        for one, question in zip(scores, questions, strict=True)
    ]


def _said(questions: Sequence[Question], found: Sequence[Nats]) -> list[Said]:
    said = []
    for one, question in zip(found, questions, strict=True):
        if isinstance(one, Failed):
            said.append(Said(error=one.why))
        else:
            best = int(np.argmax(one))
            said.append(Said(question.options[best].strip(), float(softmax(np.array(one))[best])))
    return said
