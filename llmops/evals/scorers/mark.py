"""What every scorer takes and gives: answers with their questions in, one `Marked` for each of them out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from llmops.core.context import Track, silent
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.suites import Question
from llmops.lm.ports import ChatModel


class Marked(NamedTuple):
    """What a scorer made of one answer. `mark` None is no mark at all: nothing is known of this answer.

    `notes` says how it came about, for a person: what was read, the judge's verdict, the error.
    """

    mark: float | None
    notes: dict[str, str] = {}  # noqa: RUF012 - never written to


class Unmarked(Exception):
    """Raised by a scorer that can give an answer no mark. `notes` are kept beside the answer."""

    def __init__(self, why: str, notes: dict[str, str] | None = None) -> None:
        super().__init__(why)
        self.notes = notes or {}


Given = Sequence[tuple[str, Question]]
Marker = Callable[[Given], list[Marked]]
One = Callable[[str, Question], Marked]
OwnFunction = Callable[[str, Question], Any]


@dataclass(frozen=True)
class Tools:
    """What a scorer may need from outside. Each was named by the person who asked for the evaluation.

    `functions` holds a function by what the scorer calls it, `programs` a program's file by its name, `judges` a model
    by its reference.
    """

    functions: dict[str, OwnFunction] = field(default_factory=dict)
    programs: dict[str, Path] = field(default_factory=dict)
    judges: dict[str, ChatModel] = field(default_factory=dict)
    track: Track = silent


def each(one: One) -> Marker:
    """Mark answers one by one. What goes wrong with one of them is kept with it, and costs no other its mark."""
    return lambda given: [marked(one, whole(answer), question) for answer, question in given]


def whole(text: str) -> str:
    """`text` as UTF-8 can hold it: half a character becomes `?`."""
    return text.encode("utf-8", "replace").decode("utf-8")


def marked(one: One, answer: str, question: Question) -> Marked:
    """One mark, or why there is none. `RequestError` comes through: it is wrong for every answer."""
    try:
        return one(answer, question)
    except RequestError:
        raise
    except Unmarked as error:
        return Marked(None, {**error.notes, "scorer_error": str(error)[:500]})
    except Exception as error:  # a person's own function raises what it likes
        what = error.what if isinstance(error, LlmopsError) else f"{type(error).__name__}: {error}"
        return Marked(None, {"scorer_error": what[:500]})


def right(is_right: bool, **notes: str) -> Marked:
    """A mark of 1 or 0."""
    return Marked(float(is_right), notes)


def number_of(given: Any) -> float:
    """A mark that somebody's own scorer gave, as a number. Raises `Unmarked` where it is none."""
    if not isinstance(given, (bool, int, float)) and not hasattr(given, "__float__"):
        raise Unmarked(f"the scorer gave {type(given).__name__}, which is no number")
    try:
        mark = float(given)
    except (TypeError, ValueError, OverflowError) as error:
        raise Unmarked(f"the scorer's mark is no number: {error}") from error
    if not math.isfinite(mark):
        raise Unmarked(f"the scorer's mark is {mark}")
    return mark
