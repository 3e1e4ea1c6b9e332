"""`ProgressDisplay`: the `Track` of the command line. A bar on a terminal, a line now and then elsewhere, on stderr."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from llmops.cli.words import count, seconds, size
from llmops.core.run import StepRecord

T = TypeVar("T")
PATIENCE_S = 1.0  # shorter work needs no bar
RECENT = 8  # steps over which the rate of tokens is taken
BETWEEN_LINES_S = 5.0  # where stderr is no terminal


class PatientProgress(Progress):
    """Rich's bars, each drawn only once its work has taken `PATIENCE_S`; a slow first item is no excuse to hide it."""

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        return super().make_tasks_table([task for task in tasks if (task.elapsed or 0.0) >= PATIENCE_S])


class ProgressDisplay:
    """Wraps loops so that a person sees how far they are and how long they will take. Loops may be nested."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._bars: PatientProgress | None = None

    def __call__(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        if total is None and isinstance(items, Sized):
            total = len(items)
        watch = self._with_bar if self._console.is_terminal else self._with_lines
        return watch(items, what, total)

    def _with_bar(self, items: Iterable[T], what: str, total: int | None) -> Iterator[T]:
        began, done, news = self._clock(), 0, News()
        bars = self._bars or self._start()
        task = bars.add_task(what, total=total, news="")
        try:
            for item in items:
                yield item
                done += 1
                bars.update(task, advance=1, news=news.of(item))
        finally:
            bars.remove_task(task)
            if not bars.tasks:
                self._bars = None
                bars.stop()
            self._sum_up(what, done, self._clock() - began)

    def _start(self) -> PatientProgress:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
        )
        news = TextColumn("[dim]{task.fields[news]}", table_column=Column(no_wrap=True, overflow="ellipsis"))
        after = (TextColumn("left"), news)
        self._bars = PatientProgress(*columns, *after, console=self._console, transient=True)
        self._bars.start()
        return self._bars

    def _with_lines(self, items: Iterable[T], what: str, total: int | None) -> Iterator[T]:
        began = said = self._clock()
        done, told, news = 0, "", News()
        try:
            for item in items:
                yield item
                done += 1
                told = news.of(item)
                now = self._clock()
                if now - said >= BETWEEN_LINES_S:
                    said = now
                    self._say(progress_line(what, done, total, now - began) + (told and f"; {told}"))
        finally:
            self._sum_up(what, done, self._clock() - began)

    def _sum_up(self, what: str, done: int, spent_s: float) -> None:
        if spent_s >= PATIENCE_S:
            self._say(f"{what}: {count(done)} in {seconds(spent_s)}")

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class News:
    """What the items of a loop tell about themselves, where they are steps of training: a few words beside the bar."""

    def __init__(self) -> None:
        self._recent: deque[StepRecord] = deque(maxlen=RECENT)
        self._heldout = ""

    def of(self, item: object) -> str:
        """Loss, held-out loss when it was last looked at, tokens a second over the last steps, and peak memory."""
        if not isinstance(item, StepRecord):
            return ""
        self._recent.append(item)
        if item.heldout_loss_nats is not None:
            self._heldout = f", held out {item.heldout_loss_nats:.3f}"
        spent_s = sum(record.seconds for record in self._recent)
        rate = sum(record.tokens for record in self._recent) / spent_s if spent_s else 0.0
        memory = size(item.memory_bytes)
        return f"loss {item.loss_nats:.3f}{self._heldout}, {rate:,.0f} tokens/s, {memory}"


def progress_line(what: str, done: int, total: int | None, spent_s: float) -> str:
    """One line of progress with an estimate of the time left, where the total is known and something is done."""
    if not total or not done:
        return f"{what}: {count(done)}"
    left_s = spent_s / done * max(total - done, 0)
    return f"{what}: {count(done)} of {count(total)} ({done / total:.0%}), about {seconds(left_s)} left"
