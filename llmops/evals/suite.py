"""What is asked: the suite, and the options that `pick_reply` chooses from. Both follow from the rows alone."""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Iterator, Sequence

from llmops.core.dataset import DatasetManifest, Row
from llmops.core.drawing import flat
from llmops.core.errors import RequestError
from llmops.core.report import Suite
from llmops.core.suites import Asking, Question
from llmops.core.suites import measures_of as measures_of_asking
from llmops.core.tasks import Task, measures_of
from llmops.core.value import digest


def make_suite(
    manifest: DatasetManifest, task: Task, rows: Sequence[Row], slices: Sequence[str], scale: float | None = None
) -> Suite:
    """The suite of `rows`, sliced by the fields named in `slices`; a task to rate has the `scale` of its ratings.

    Raises `RequestError` where there are no rows, two rows have one id (their answers could not be paired), or no
    row has a field named in `slices`.
    """
    if not rows:
        raise RequestError("there are no rows to evaluate on", "hold out more rows: raise data.heldout_share")
    if len({row.id for row in rows}) != len(rows):
        raise RequestError("two rows have the same id", "evaluate on rows that `prepare` wrote")
    for name in slices:
        if not any(name in row.fields for row in rows):
            known = sorted({field for row in rows for field in row.fields})
            raise RequestError(
                f"no row has a field {name!r} to slice by",
                f"name one of: {', '.join(known)}" if known else "keep it with keep_fields or fields of the source",
            )
    return Suite(
        dataset=manifest.id,
        rows_sha256=rows_digest(rows),
        measures=measures_of(task),
        slices=tuple(slices),
        scale=scale,
    )


def scale_of(train_rows: Sequence[Row]) -> float:
    """From the lowest to the highest rating of the training rows; `RequestError` where they all have the same."""
    ratings = [float(row.label) for row in train_rows if row.label is not None]  # rows to replay have none
    scale = max(ratings, default=0.0) - min(ratings, default=0.0)
    if not scale:
        raise RequestError("the training rows have one and the same rating", "bring rows with different ratings")
    return scale


def question_suite(name: str, asking: Asking, questions: Sequence[Question], slices: Sequence[str] = ()) -> Suite:
    """The suite of `questions` as they will be asked, examples in front. Raises `RequestError` as `make_suite` does."""
    if not questions:
        raise RequestError(f"{name} has no questions", "ask at least one")
    counted = Counter(question.id for question in questions)
    twice = next((one for one in questions if counted[one.id] > 1), None)
    if twice is not None:
        raise RequestError(
            f"{name} asks the same question twice: {flat(twice.asked)[:80]!r}", "keep each question once"
        )
    return Suite(
        dataset=name,
        rows_sha256=rows_digest(questions),
        measures=measures_of_asking(asking),
        slices=tuple(slices),
        asking=asking,
    )


def rows_digest(rows: Sequence[Row] | Sequence[Question]) -> str:
    """The sha256 of the ids of `rows`, in order."""
    return digest([row.id for row in rows])


def check_rows(suite: Suite, rows: Sequence[Row] | Sequence[Question]) -> None:
    """Raise `RequestError` unless `rows` are the rows of `suite`, in its order."""
    if rows_digest(rows) != suite.rows_sha256:
        raise RequestError(
            f"these {len(rows)} rows are not the rows of the suite {suite.id}", "make a suite of these rows first"
        )


def reply_options(rows: Sequence[Row], opening: str | None, wrong: int = 3) -> list[tuple[str, ...]]:
    """For each row, its real reply (found again by `.index(row.reply)`) among `wrong` others, in no telling order.

    The others are real replies of other conversations (`Row.group`) whose field `opening` has the same value, and of
    any other conversation where those are too few; no two options are the same text, case and spaces aside, and none
    answers the very same prompt. Everything hangs on row ids: the order of `rows` and the process do not matter.
    Raises `RequestError` where the rows hold too few different replies.
    """
    everywhere = _Ring(rows)
    values = {row.fields.get(opening) for row in rows} - {None} if opening else set()
    alike = {value: _Ring([row for row in rows if row.fields.get(opening or "") == value]) for value in values}
    options = []
    for row in rows:
        near = alike.get(row.fields.get(opening or ""))
        found: dict[str, str] = {fold(row.reply): row.reply}
        for ring in (near, everywhere) if near else (everywhere,):
            for other in ring.walk(row):
                if len(found) > wrong:
                    break
                if other.group != row.group and other.prompt != row.prompt:
                    found.setdefault(fold(other.reply), other.reply)
        if len(found) <= wrong:
            raise RequestError(
                f"pick_reply needs {wrong + 1} different replies, and there are {len(found)} for row {row.id}",
                "hold out more rows, or leave pick_reply out of task.measures",
            )
        options.append(tuple(sorted(found.values(), key=lambda reply: digest([row.id, reply]))))
    return options


def fold(text: str) -> str:
    """`text` without what makes no difference: case, and how much white space."""
    return " ".join(text.casefold().split())


class _Ring:
    """Rows in the order of their hashes, which each row enters at a place of its own.

    A walk from there is a draw without a random generator, and takes a few steps where ranking all rows for each
    row would take the square of their number.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        ranked = sorted((digest(["option", row.id]), place) for place, row in enumerate(rows))
        self._rows = [rows[place] for _, place in ranked]
        self._hashes = [rank for rank, _ in ranked]

    def walk(self, row: Row) -> Iterator[Row]:
        start = bisect(self._hashes, digest(["asks", row.id]))
        yield from self._rows[start:]
        yield from self._rows[:start]
