"""`evaluate`: what can this model do, measured how? N rows, K labels.

Labels are classified by likelihood, numbers read from what the model says, replies measured by the suite's measures.
A row that the model fails on is data: its answer says why (`fields["error"]`), and it is wrong, or costs
`GUESSED_BITS` a byte, or the whole scale of the ratings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from llmops.core.context import Track, silent
from llmops.core.dataset import Message, Row
from llmops.core.errors import RequestError
from llmops.core.report import EvalReport, Subject, Suite
from llmops.core.serving import Sampling
from llmops.core.tasks import Continue, Rate, Reply, Task
from llmops.evals.preferences import preference, reward_accuracy, sides
from llmops.evals.ratings import evaluate_ratings
from llmops.evals.score import Failed, Measured, Said, ask_each, check_some_answered, report
from llmops.evals.suite import check_rows, fold, reply_options
from llmops.lm.ports import ChatModel, ScoringModel

GUESSED_BITS = 8.0  # a byte costs so much where all 256 are equally likely
SMALLEST_NATS = -103.28  # log of the smallest float32 above 0: a probability that underflowed counts as this one
MAX_TOKENS = 4096  # as many as `Sampling` allows

SIDES = {"preference": preference, "reward_accuracy": reward_accuracy}

Pair = tuple[tuple[Message, ...], str]
Scored = dict[Pair, tuple[float, int] | Failed]


class Model(ScoringModel, ChatModel, Protocol):
    """A model that scores and speaks."""


def evaluate(
    model: Model, subject: Subject, suite: Suite, rows: Sequence[Row], task: Task, track: Track = silent
) -> EvalReport:
    """The report of `model`, called `subject`, on the rows of `suite`.

    Raises `RequestError` where `rows` are not the suite's, `LlmopsError` where the model can answer none of them.
    """
    check_rows(suite, rows)
    if isinstance(task, Reply):
        return _evaluate_replies(model, subject, suite, rows, task, track)
    if isinstance(task, Continue):
        return _evaluate_texts(model, subject, suite, rows, track)
    if isinstance(task, Rate):
        return evaluate_ratings(model, subject, suite, rows, track)

    def ask(some: Sequence[Row], track: Track) -> list[np.ndarray]:
        probe = model.probe([row.prompt for row in some], task.labels, track)
        return list(probe.logprobs_NK)

    found = ask_each(ask, rows, track)
    return _label_report(
        subject, suite, rows, task.labels, [one if isinstance(one, Failed) else softmax(one) for one in found]
    )


def grade_labels(
    subject: Subject, suite: Suite, rows: Sequence[Row], labels: Sequence[str], probabilities_NK: np.ndarray
) -> EvalReport:
    """The report of predictions made elsewhere. `probabilities_NK` follows the order of `rows` and of `labels`.

    A row with a number that is not finite is a row without an answer. Raises `RequestError` as `evaluate` does, and
    where the shape does not fit.
    """
    check_rows(suite, rows)
    if np.shape(probabilities_NK) != (len(rows), len(labels)):
        raise RequestError(
            f"{len(rows)} rows and {len(labels)} labels, but probabilities of shape {np.shape(probabilities_NK)}",
            "give one row of probabilities for each row, one number for each label",
        )
    return _label_report(subject, suite, rows, labels, list(np.asarray(probabilities_NK, dtype=np.float64)))


def grade_picks(
    subject: Subject,
    suite: Suite,
    rows: Sequence[Row],
    options: Sequence[Sequence[str]],
    scores: Sequence[Sequence[float]],
) -> EvalReport:
    """The `pick_reply` report of scores made elsewhere, one for each of the `reply_options` of each row."""
    check_rows(suite, rows)
    if [len(row) for row in options] != [len(row) for row in scores] or len(options) != len(rows):
        raise RequestError("options and scores do not fit the rows", "give one score for each option of each row")
    measured, said = _picks(rows, options, list(scores))
    return report(subject, suite, rows, [measured], said)


def softmax(logprobs_K: np.ndarray) -> np.ndarray:
    """Probabilities over the labels alone. One that underflowed counts as 0; if all did, nothing tells them apart."""
    logprobs_K = np.maximum(np.asarray(logprobs_K, dtype=np.float64), -1e6)
    raised_K = np.exp(logprobs_K - logprobs_K.max())
    probabilities_K: np.ndarray = raised_K / raised_K.sum()
    return probabilities_K


def _label_report(
    subject: Subject, suite: Suite, rows: Sequence[Row], labels: Sequence[str], found: Sequence[np.ndarray | Failed]
) -> EvalReport:
    place = {label: index for index, label in enumerate(labels)}
    strange = sorted({str(row.label) for row in rows if row.label not in place})
    if strange:
        raise RequestError(
            f"the rows have a label {strange[0]!r} that was not asked for", f"ask for it beside {list(labels)}"
        )
    found = [
        one if isinstance(one, Failed) or np.isfinite(one).all() else Failed("the model gave no finite probability")
        for one in found
    ]
    check_some_answered(found)
    truth = [place[str(row.label)] for row in rows]
    best = [-1 if isinstance(one, Failed) else int(np.argmax(one)) for one in found]
    said = [
        Said(error=one.why) if isinstance(one, Failed) else _said(labels, one, index)
        for one, index in zip(found, best, strict=True)
    ]
    marks = [float(index == true) for index, true in zip(best, truth, strict=True)]
    return report(
        subject, suite, rows, [Measured("accuracy", best, truth, marks), Measured("macro_f1", best, truth)], said
    )


def _said(labels: Sequence[str], chances_K: np.ndarray, best: int) -> Said:
    return Said(labels[best], float(chances_K[best]), None, dict(zip(labels, map(float, chances_K), strict=True)))


def _evaluate_replies(
    model: Model, subject: Subject, suite: Suite, rows: Sequence[Row], task: Reply, track: Track
) -> EvalReport:
    options = reply_options(rows, task.opening) if "pick_reply" in suite.measures else []
    scored = _score_pairs(model, suite, rows, options, track)
    parts = []
    for measure in suite.measures:
        if measure == "bits_per_byte":
            parts.append(_bits([row.reply for row in rows], [scored[row.prompt, row.reply] for row in rows]))
        elif measure == "pick_reply":
            parts.append(
                _picks(
                    rows, options, [_pick_scores(row, some, scored) for row, some in zip(rows, options, strict=True)]
                )
            )
        elif measure == "exact_match":
            parts.append(_matches(model, rows, scored, track))
        elif measure in SIDES:
            parts.append(SIDES[measure](model, rows, scored, track))
        else:
            raise RequestError(f"{measure} does not measure a reply", "make the suite for this task")
    # A generated text is the answer where there is one, else the option that was picked.
    speaks = [said for measured, said in sorted(parts, key=lambda part: part[0].metric == "exact_match")]
    merged = [
        Said(
            next((one.text for one in reversed(row) if one.text), ""),
            None,
            next((one.error for one in row if one.error), None),
        )
        for row in zip(*speaks, strict=True)
    ]
    return report(subject, suite, rows, [measured for measured, _ in parts], merged)


def _evaluate_texts(model: Model, subject: Subject, suite: Suite, rows: Sequence[Row], track: Track) -> EvalReport:
    """Bits per byte of running text: what a domain's own texts cost the model."""
    found = ask_each(model.text_logprobs, [row.text for row in rows], track)
    scored = [one if isinstance(one, Failed) else _finite(*one) for one in found]
    measured, said = _bits([row.text for row in rows], scored)
    return report(subject, suite, rows, [measured], said)


def _score_pairs(
    model: Model, suite: Suite, rows: Sequence[Row], options: Sequence[Sequence[str]], track: Track
) -> Scored:
    """The log-probability (nats) and tokens of each reply in its context; of each option also without a context."""
    wanted: dict[Pair, None] = {(row.prompt, row.reply): None for row in rows}
    if SIDES.keys() & set(suite.measures):
        wanted |= dict.fromkeys(pair for row in rows for pair in sides(row))
    for row, some in zip(rows, options, strict=bool(options)):
        wanted |= {pair: None for option in some for pair in ((row.prompt, option), ((), option))}
    found = ask_each(model.reply_logprobs, list(wanted), track)
    return {pair: one if isinstance(one, Failed) else _finite(*one) for pair, one in zip(wanted, found, strict=True)}


def _finite(nats: float, tokens: int) -> tuple[float, int] | Failed:
    if math.isnan(nats) or nats == math.inf:
        return Failed("the model gave no finite probability")
    return max(float(nats), SMALLEST_NATS * tokens), tokens


def _bits(texts: Sequence[str], found: Sequence[tuple[float, int] | Failed]) -> tuple[Measured, list[Said]]:
    check_some_answered(found)
    sizes = [max(1, len(text.encode("utf-8", "surrogatepass"))) for text in texts]
    bits = [
        GUESSED_BITS * size if isinstance(one, Failed) else -one[0] / math.log(2)
        for one, size in zip(found, sizes, strict=True)
    ]
    rates = [each / size for each, size in zip(bits, sizes, strict=True)]
    said = [Said(error=one.why) if isinstance(one, Failed) else Said() for one in found]
    return Measured("bits_per_byte", bits, sizes, rates, [float(size) for size in sizes]), said


def _pick_scores(row: Row, options: Sequence[str], scored: Scored) -> list[float] | Failed:
    """How much likelier the context makes each option (nats)."""
    found = []
    for option in options:
        within, without = scored[row.prompt, option], scored[(), option]
        if isinstance(within, Failed):
            return within
        if isinstance(without, Failed):
            return without
        found.append(within[0] - without[0])
    return found


def _picks(
    rows: Sequence[Row], options: Sequence[Sequence[str]], scores: Sequence[Sequence[float] | Failed]
) -> tuple[Measured, list[Said]]:
    scores = [
        one if isinstance(one, Failed) or np.isfinite(one).all() else Failed("an option has no finite score")
        for one in scores
    ]
    check_some_answered(scores)
    real = [list(some).index(row.reply) for row, some in zip(rows, options, strict=True)]
    picked = [-1 if isinstance(one, Failed) else int(np.argmax(one)) for one in scores]
    said = [
        Said(error=one.why) if isinstance(one, Failed) else Said(some[index])
        for one, some, index in zip(scores, options, picked, strict=True)
    ]
    marks = [float(index == place) for index, place in zip(picked, real, strict=True)]
    given = [[] if isinstance(one, Failed) else [float(score) for score in one] for one in scores]
    return Measured("pick_reply", given, real, marks), said


def _matches(model: Model, rows: Sequence[Row], scored: Scored, track: Track) -> tuple[Measured, list[Said]]:
    """Greedy answers, no longer than the longest expected one: a longer answer is wrong already."""
    lengths = [one[1] for one in (scored[row.prompt, row.reply] for row in rows) if not isinstance(one, Failed)]
    sampling = Sampling(max_tokens=min(MAX_TOKENS, max(lengths, default=128)))
    found = ask_each(lambda some, track: model.reply([row.prompt for row in some], sampling, track), rows, track)
    texts = ["" if isinstance(one, Failed) else one for one in found]
    marks = [
        float(not isinstance(one, Failed) and fold(one) == fold(row.reply))
        for one, row in zip(found, rows, strict=True)
    ]
    said = [Said(error=one.why) if isinstance(one, Failed) else Said(one) for one in found]
    return Measured("exact_match", texts, [row.reply for row in rows], marks), said
