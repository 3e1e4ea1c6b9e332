"""What a verb is given besides its input: nothing in llmops reads a clock or reports progress behind one's back."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol, TypeVar

T = TypeVar("T")


class Track(Protocol):
    """Wraps a long loop so that somebody can watch it; `total` is the number of items, if known."""

    def __call__(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]: ...


def silent(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Track nothing: the default in Python and in tests."""
    return iter(items)


def system_clock() -> datetime:
    """The current time, in UTC."""
    return datetime.now(UTC)


def say_nothing(line: str) -> None:
    """Drop a remark: the default in Python and in tests."""


def current_author() -> str:
    """The login name of whoever runs this process; `unknown` where the system cannot tell."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


@dataclass(frozen=True)
class Surroundings:
    """The outside world as a verb may see it: a clock, a voice, a progress display, who is asking."""

    clock: Callable[[], datetime] = system_clock
    say: Callable[[str], None] = say_nothing
    track: Track = silent
    author: str = field(default_factory=current_author)
    allow_download: bool = False
