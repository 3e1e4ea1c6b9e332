"""From what a subject said of each row to a report: scores with intervals, overall and by slice, every answer kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from llmops.core.context import Track, silent
from llmops.core.dataset import Row
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.report import Answer, EvalReport, Score, Subject, Suite
from llmops.core.suites import Question
from llmops.evals import intervals, metrics

Item = TypeVar("Item")
Found = TypeVar("Found")


class Failed(NamedTuple):
    """A row that a model could not answer, and the text of its error."""

    why: str


class Said(NamedTuple):
    """What a subject answered to a row: "" where it was not asked for a text."""

    text: str = ""
    probability: float | None = None
    error: str | None = None
    chances: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Measured:
    """One measure of every row: what the metric is given, and the mark it makes of each row.

    `weights` is empty except where marks are rates; `marks` is empty where a row by itself has none (macro-F1).
    """

    metric: str
    predictions: Sequence[Any]
    references: Sequence[Any]
    marks: Sequence[float] = ()
    weights: Sequence[float] = ()

    def score(self, places: Sequence[int], groups: Sequence[str] = ()) -> Score:
        """The score of the rows at `places`; `groups` names what each of all rows shares with others.

        Where a single group holds all these rows, nothing is known of another, and they count as rows.
        """
        predictions, references = [self.predictions[i] for i in places], [self.references[i] for i in places]
        value = metrics.compute(self.metric, predictions, references)
        marks = [self.marks[i] for i in places] if self.marks else []
        weights = [self.weights[i] for i in places] if self.weights else [1.0] * len(places)
        mine = [groups[i] for i in places] if groups else []
        if not 1 < len(set(mine)) < len(places):
            return self._bounded(value, *self._alone(predictions, references, marks, weights), len(places))
        found = self._bounded(value, *self._grouped(predictions, references, marks, weights, mine), len(places))
        effect = intervals.design_effect(marks, weights, mine) if marks else None
        return found.replace(groups=len(set(mine)), design_effect=effect)

    def _bounded(self, value: float, low: float, high: float, n: int) -> Score:
        return Score(metric=self.metric, value=value, low=min(low, value), high=max(high, value), n=n)

    def _alone(
        self, predictions: list[Any], references: list[Any], marks: list[float], weights: list[float]
    ) -> tuple[float, float]:
        """The interval of rows that have nothing to do with each other."""
        if not marks:
            return intervals.bootstrap_macro_f1(intervals.confusion(references, predictions))
        return intervals.bootstrap(marks, weights) if self.graded else intervals.wilson(sum(marks), len(marks))

    def _grouped(
        self, predictions: list[Any], references: list[Any], marks: list[float], weights: list[float], groups: list[str]
    ) -> tuple[float, float]:
        """The interval of rows that share sources."""
        if not marks:
            return intervals.bootstrap_macro_f1_clustered(references, predictions, groups)
        if self.graded:
            return intervals.bootstrap(marks, weights, groups=groups)
        return intervals.wilson_clustered(marks, groups)

    @property
    def graded(self) -> bool:
        """Whether marks are more than right or wrong."""
        return bool(self.weights) or not all(mark in (0.0, 1.0) for mark in self.marks)

    def sliced(self, slices: dict[str, list[int]], n: int, groups: Sequence[str] = ()) -> Score:
        """The score of all `n` rows, and of each slice. One row has no spread to draw again: no bootstrap."""
        kept = {name: places for name, places in slices.items() if len(places) > 1 or not self.graded}
        by_slice = {name: self.score(places, groups) for name, places in kept.items()}
        return self.score(range(n), groups).replace(slices=by_slice)


class Asked(NamedTuple):
    """A row or a question as a report keeps it."""

    id: str
    prompt: str
    expected: str
    fields: dict[str, str]
    group: str = ""


def asked_row(row: Row) -> Asked:
    """A row, with its label or its reply as what is expected."""
    return Asked(row.id, row.text, row.label or (row.reply if row.messages else ""), row.fields, row.group)


def asked_question(question: Question) -> Asked:
    """A question, with every right answer as what is expected, one a line."""
    return Asked(question.id, question.asked, "\n".join(question.expected), question.fields, question.group)


def report(
    subject: Subject, suite: Suite, rows: Sequence[Row], measured: Sequence[Measured], said: Sequence[Said]
) -> EvalReport:
    """The report of what was `said` to each of `rows`, as it was `measured`."""
    return grade(subject, suite, [asked_row(row) for row in rows], measured, said)


def grade(
    subject: Subject, suite: Suite, asked: Sequence[Asked], measured: Sequence[Measured], said: Sequence[Said]
) -> EvalReport:
    """The same of anything that was `asked`."""
    slices: dict[str, list[int]] = {}
    for name in suite.slices:
        for place, row in enumerate(asked):
            if name in row.fields:
                slices.setdefault(f"{name}={row.fields[name]}", []).append(place)
    slices = dict(sorted(slices.items()))
    groups = [row.group or row.id for row in asked]
    sizes = Counter(groups)
    answers = [
        Answer(
            row=row.id,
            prompt=row.prompt,
            expected=row.expected,
            answered=answer.text,
            marks={one.metric: one.marks[place] for one in measured if one.marks},
            weights={one.metric: one.weights[place] for one in measured if one.weights},
            probability=answer.probability,
            chances=dict(answer.chances or {}),
            group=groups[place] if sizes[groups[place]] > 1 else None,
            fields=row.fields if answer.error is None else {**row.fields, "error": answer.error},
        )
        for place, (row, answer) in enumerate(zip(asked, said, strict=True))
    ]
    scores = {one.metric: one.sliced(slices, len(asked), groups) for one in measured}
    return EvalReport(subject=subject, suite=suite, scores=scores, answers=tuple(answers))


def ask_each(
    ask: Callable[[Sequence[Item], Track], Sequence[Found]], items: Sequence[Item], track: Track
) -> list[Found | Failed]:
    """What `ask` says to `items`; where it raises, each item is asked by itself, and a failure costs that item only.

    Raises `LlmopsError` where every item fails, and `RequestError` as it comes.
    """
    try:
        return list(ask(items, track))
    except RequestError:
        raise
    except Exception:  # a model raises what it likes; what is wrong with which row shows below
        found = [_ask_one(ask, item) for item in track(items, "row by row", len(items))]
        check_some_answered(found)
        return found


def _ask_one(ask: Callable[[Sequence[Item], Track], Sequence[Found]], item: Item) -> Found | Failed:
    try:
        return ask([item], silent)[0]
    except RequestError:
        raise
    except Exception as error:
        what = error.what if isinstance(error, LlmopsError) else f"{type(error).__name__}: {error}"
        return Failed(what[:500])


def check_some_answered(found: Sequence[Any]) -> None:
    """Raise `LlmopsError` where all of `found` is `Failed`: a score of nothing would say something about the model."""
    failures = [one for one in found if isinstance(one, Failed)]
    if failures and len(failures) == len(found):
        raise LlmopsError(
            f"the model answered none of {len(found)} rows: {failures[0].why}",
            "if its training diverged, lower training.learning_rate; else look at one row with `llmops inspect`",
        )
