"""From what a subject said of each row to a report: scores with intervals, overall and by slice, every answer kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from llmops.core.context import Track, silent
from llmops.core.dataset import Row
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.measures import top_of
from llmops.core.report import Answer, EvalReport, Sample, Score, Subject, Suite
from llmops.core.suites import Question
from llmops.evals import intervals, metrics

SHOWN = 64  # rows at least, where what is asked again is shown
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
    notes: dict[str, str] = {}  # noqa: RUF012 - never written to
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True)
class Measured:
    """One measure of every row: what the metric is given, and the mark it makes of each row.

    `weights` is empty except where marks are rates; `marks` is empty where a row by itself has none (macro-F1).
    A row whose mark is None could not be marked: it is no part of a score. `knobs` is what else the metric is told, and
    `interval` gives the interval of the rows at some places, where the score is no mean of marks.
    """

    metric: str
    predictions: Sequence[Any]
    references: Sequence[Any]
    marks: Sequence[float | None] = ()
    weights: Sequence[float] = ()
    knobs: Mapping[str, Any] = field(default_factory=dict)
    interval: Callable[[Sequence[int]], tuple[float, float]] | None = None

    def marked(self, places: Sequence[int]) -> list[int]:
        """Those of `places` that could be marked."""
        return [place for place in places if not self.marks or self.marks[place] is not None]

    def score(self, places: Sequence[int], groups: Sequence[str] = ()) -> Score:
        """The score of the rows at `places`. `groups` names the source of each of all rows; without, each has its own.

        Where one source holds all these rows, nothing is known of another, and they count as rows.
        """
        places = self.marked(places)
        predictions, references = [self.predictions[i] for i in places], [self.references[i] for i in places]
        value = metrics.compute(self.metric, predictions, references, **self.knobs)
        marks = [mark for i in places if self.marks and (mark := self.marks[i]) is not None]
        weights = [self.weights[i] if self.weights else 1.0 for i in places]
        mine = [groups[i] for i in places] if groups else []
        shared = 1 < len(set(mine)) < len(places) and self.interval is None
        if self.interval is not None:
            low, high = self.interval(places)
            if low == high:
                low, high = intervals.of_marks([value] * len(places), weights, None, True, self.top)
        elif self.marks:
            low, high = intervals.of_marks(marks, weights, mine if shared else None, self.graded, self.top)
        else:
            low, high = intervals.of_labels(references, predictions, mine if shared else None)
        return Score(
            metric=self.metric,
            value=value,
            low=min(low, value),
            high=max(high, value),
            n=len(places),
            groups=len(set(mine)) if shared else None,
            design_effect=intervals.design_effect(marks, weights, mine) if shared and marks else None,
        )

    @property
    def top(self) -> float:
        """The highest mark that there is."""
        return top_of(self.metric)

    @cached_property
    def graded(self) -> bool:
        """Whether marks are more than right or wrong. A tie of preferences counts half and is still a share."""
        return bool(self.weights) or any(mark not in (0.0, 0.5, 1.0, None) for mark in self.marks)

    def sliced(self, slices: dict[str, list[int]], n: int, groups: Sequence[str] = ()) -> Score:
        """The score of all `n` rows, and of each slice. One row has no spread to draw again: no bootstrap."""
        fewest = 2 if self.graded or self.interval is not None else 1
        kept = {name: places for name, places in slices.items() if len(self.marked(places)) >= fewest}
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
            marks={one.metric: mark for one in measured if one.marks and (mark := one.marks[place]) is not None},
            weights={one.metric: one.weights[place] for one in measured if one.weights},
            probability=answer.probability,
            chances=dict(answer.chances or {}),
            group=groups[place] if sizes[groups[place]] > 1 else None,
            fields=row.fields if answer.error is None else {**row.fields, "error": answer.error},
            notes=answer.notes,
            samples=answer.samples,
        )
        for place, (row, answer) in enumerate(zip(asked, said, strict=True))
    ]
    scores = {one.metric: one.sliced(slices, len(asked), groups) for one in measured}
    return EvalReport(subject=subject, suite=suite, scores=scores, answers=tuple(answers))


def ask_each(
    ask: Callable[[Sequence[Item], Track], Sequence[Found]], items: Sequence[Item], track: Track
) -> list[Found | Failed]:
    """What `ask` says to `items`; where it raises, the halves are asked, and so on: a failure costs that item only.

    One item of a thousand that fails costs some twenty smaller batches, where asking one by one would cost a thousand.
    Raises `LlmopsError` where every item fails, and `RequestError` as it comes.
    """
    try:
        return list(ask(items, track))
    except RequestError:
        raise
    except Exception:  # a model raises what it likes; what is wrong with which row shows below
        found = _ask_halves(ask, items, track)
        check_some_answered(found)
        return found


def _ask_halves(
    ask: Callable[[Sequence[Item], Track], Sequence[Found]], items: Sequence[Item], track: Track
) -> list[Found | Failed]:
    """The same for items of which at least one makes `ask` raise. Small halves are not worth showing."""
    if len(items) == 1:
        return [_ask_one(ask, items[0])]
    found: list[Found | Failed] = []
    for half in (items[: len(items) // 2], items[len(items) // 2 :]):
        try:
            found += ask(half, track if len(half) >= SHOWN else silent)
        except RequestError:
            raise
        except Exception:  # as above: the row that is wrong is in here
            found += _ask_halves(ask, half, track)
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
