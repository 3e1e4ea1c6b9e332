"""`generate`: questions answered in the model's own words, and marked by the suite's scorer.

Every question is asked `samples` times, each time with a seed of its own; its mark is the mean over them, so that a
question counts once however often it was asked, and intervals are over questions. An answer that failed is data: it is
wrong (0), and says why. An answer that the scorer could not mark is data too, and no part of the score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from llmops.core.context import Track
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.report import EvalReport, Sample, Subject, Suite
from llmops.core.scorers import Bleu, Chrf, measures_of_scorer
from llmops.core.serving import Sampling
from llmops.core.suites import Generate, Question
from llmops.evals.intervals import SEED
from llmops.evals.score import Failed, Measured, Said, ask_each, asked_question, grade
from llmops.evals.scorers.mark import Marked, Tools
from llmops.evals.scorers.overlap import bleu_scorer, chrf_scorer, corpus_interval
from llmops.evals.scorers.table import marker
from llmops.evals.suite import check_rows
from llmops.lm.ports import ChatModel

Answers = list[str | Failed]


class Speaker(ChatModel, Protocol):
    """A model that answers, and that also goes on with a text."""

    def go_on(self, texts: Sequence[str], sampling: Sampling, track: Track) -> list[str]:
        """What comes after each text."""
        ...


def generate(
    model: Speaker, subject: Subject, suite: Suite, questions: Sequence[Question], tools: Tools = Tools()
) -> EvalReport:
    """The report of `model`, called `subject`, on the questions of `suite`. `tools` is what its scorer needs.

    Raises `RequestError` where these are not the suite's questions, the samples would all be the same, or the scorer
    lacks something; `LlmopsError` where the model answers none of them, or the scorer can mark none of the answers.
    """
    check_rows(suite, questions)
    asking = suite.asking
    if not isinstance(asking, Generate):
        raise RequestError(f"the suite {suite.dataset} asks for no generated answer", "evaluate it as its kind says")
    if asking.samples > 1 and asking.sampling.temperature == 0:
        raise RequestError(
            f"{asking.samples} samples at temperature 0 are the same answer {asking.samples} times",
            "set a temperature, such as --set sampling.temperature=0.7, or ask once",
        )
    mark = marker(asking.scorer, tools)
    drawn = [
        _answers(model, questions, asking.sampling.replace(seed=asking.sampling.seed + number), tools.track)
        for number in range(asking.samples)
    ]
    marks = [_mark(mark, answers, questions) for answers in drawn]
    said = [_said(place, drawn, marks, asking.sampling.seed) for place in range(len(questions))]
    means = [_mean([some[place].mark for some in marks]) for place in range(len(questions))]
    _check_some_marked(means, marks)
    measured = [Measured(measures_of_scorer(asking.scorer)[0], _plain(means), [0.0] * len(means), means)]
    if isinstance(asking.scorer, Bleu | Chrf):
        measured.append(_corpus(asking.scorer, drawn[0], questions))
    return grade(subject, suite, [asked_question(question) for question in questions], measured, said)


def _answers(model: Speaker, questions: Sequence[Question], sampling: Sampling, track: Track) -> Answers:
    """One answer to each question. The longest are asked first: a batch holds questions of about one length."""
    order = sorted(range(len(questions)), key=lambda place: -len(questions[place].asked))
    found: Answers = [""] * len(questions)
    for is_text, ask in ((True, _go_on(model, sampling)), (False, _reply(model, sampling))):
        places = [place for place in order if bool(questions[place].text) == is_text]
        answers = ask_each(ask, [questions[place] for place in places], track) if places else []
        for place, answer in zip(places, answers, strict=True):
            found[place] = answer
    return found


Ask = Callable[[Sequence[Question], Track], list[str]]


def _go_on(model: Speaker, sampling: Sampling) -> Ask:
    return lambda some, track: model.go_on([question.text for question in some], sampling, track)


def _reply(model: Speaker, sampling: Sampling) -> Ask:
    return lambda some, track: model.reply([question.messages for question in some], sampling, track)


def _mark(mark: Callable[..., list[Marked]], answers: Answers, questions: Sequence[Question]) -> list[Marked]:
    """A mark for each answer; 0 where there is none."""
    given = [(one, question) for one, question in zip(answers, questions, strict=True) if not isinstance(one, Failed)]
    made = iter(mark(given))
    return [Marked(0.0) if isinstance(one, Failed) else next(made) for one in answers]


def _said(place: int, drawn: Sequence[Answers], marks: Sequence[list[Marked]], seed: int) -> Said:
    """What was answered to one question: the first answer, and each of them where there are several."""
    first = drawn[0][place]
    error = next((one.why for some in drawn if isinstance(one := some[place], Failed)), None)
    samples = tuple(
        Sample(
            seed=seed + number,
            answered=_text(answers[place]),
            mark=some[place].mark,
            notes=some[place].notes,
        )
        for number, (answers, some) in enumerate(zip(drawn, marks, strict=True))
    )
    return Said(
        text=_text(first),
        error=error,
        notes=marks[0][place].notes if len(drawn) == 1 else {},
        samples=samples if len(drawn) > 1 else (),
    )


def _text(answer: str | Failed) -> str:
    return "" if isinstance(answer, Failed) else answer


def _mean(marks: Sequence[float | None]) -> float | None:
    """The mean of the marks that there are."""
    given = [mark for mark in marks if mark is not None]
    return sum(given) / len(given) if given else None


def _plain(marks: Sequence[float | None]) -> list[float]:
    return [0.0 if mark is None else mark for mark in marks]


def _check_some_marked(means: Sequence[float | None], marks: Sequence[list[Marked]]) -> None:
    """Raise `LlmopsError` where no answer was marked: a score of nothing would say something about the model."""
    if all(mean is None for mean in means):
        why = marks[0][0].notes.get("scorer_error", "it says no more")
        raise LlmopsError(
            f"the scorer could mark none of {len(means)} answers: {why}", "try the scorer on one answer of yours first"
        )


def _corpus(scorer: Bleu | Chrf, answers: Answers, questions: Sequence[Question]) -> Measured:
    """BLEU or chrF of all answers together (of the first samples)."""
    texts, expected = [_text(one) for one in answers], [question.expected for question in questions]
    library = bleu_scorer(scorer, of_one=False) if isinstance(scorer, Bleu) else chrf_scorer(scorer.word_order)

    def interval(places: Sequence[int]) -> tuple[float, float]:
        return corpus_interval(library, [texts[at] for at in places], [expected[at] for at in places], SEED)

    knobs = {name: value for name, value in scorer.to_json().items() if name != "kind"}
    return Measured(scorer.kind, texts, expected, knobs=knobs, interval=interval)
