"""`Served` and `Roster`: who answers to which name, and how one version takes over from another."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from llmops.core.canary import Canary, version_for
from llmops.core.dataset import Message
from llmops.serving.admission import Gate
from llmops.serving.engine import Engine
from llmops.serving.tools import ToolRenderer
from llmops.serving.wire import ApiError


class PromptRenderer(Protocol):
    """What serving needs of `lm.render.Renderer`."""

    end_ids: frozenset[int]

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]: ...

    def content_ids(self, text: str) -> list[int]: ...

    def text_ids(self, text: str) -> list[int]: ...


class Labels(Protocol):
    """Gives the probability of each of `labels` for a text, and the tokens that were read for it."""

    labels: tuple[str, ...]

    def ids(self, text: str) -> list[int]: ...

    async def chances(self, text: str, ids: Sequence[int]) -> list[float]: ...


@dataclass(frozen=True)
class Served:
    """A version behind an engine. `version` is `tone:2`; `aliases` are the other names it answers to.

    Without a renderer the engine reads the bare text of the last message (a cheap row). `opening` stood before
    every conversation in training, so it is put before one that brings no system prompt of its own. `labels` is there
    where it was trained to label; its chances are tempered by `temperature`, and where it is less sure than
    `abstain_below` (before that) it gives none. `tools` is there where its template has a form for tools. `trial` is a
    canary of it that runs: then the version that is tried is served too.
    """

    version: str
    aliases: tuple[str, ...]
    engine: Engine
    renderer: PromptRenderer | None
    opening: tuple[Message, ...] = ()
    labels: Labels | None = None
    tools: ToolRenderer | None = None
    temperature: float = 1.0
    abstain_below: float | None = None
    trial: Canary | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return (self.version, *self.aliases)

    def as_trained(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """The messages as this version saw them in training."""
        return (*(() if messages[0].role == "system" else self.opening), *messages)


@dataclass(frozen=True)
class Chosen:
    """Who answers a request: `drawn` by a canary, or not. `shadow` is asked the same again, and not heard."""

    one: Served
    drawn: bool = False
    shadow: Served | None = None


class Roster:
    """Names and who answers to them, a queue for each engine, and a count of those who use it.

    A version that nobody can name any more is retired: its engine closes when its last answer is over.
    """

    def __init__(self, served: Sequence[Served], queue: int) -> None:
        self._queue = queue
        self._names: dict[str, Served] = {}
        self._gates: dict[int, Gate] = {}
        self._users: Counter[int] = Counter()
        self._closing: set[asyncio.Task[None]] = set()
        for one in served:
            self._take_in(one)

    def _take_in(self, one: Served) -> None:
        self._names.update(dict.fromkeys(one.names, one))
        self._gates.setdefault(id(one.engine.pool), Gate(one.engine.slots, self._queue))

    @property
    def names(self) -> list[str]:
        return list(self._names)

    @property
    def versions(self) -> list[Served]:
        return list({id(one): one for one in self._names.values()}.values())

    @property
    def gates(self) -> list[Gate]:
        return list(self._gates.values())

    def find(self, name: str) -> Served:
        """Who answers to a name. Raises `ApiError` 404, with the names that there are."""
        one = self._names.get(name)
        if one is None:
            known = ", ".join(self._names)
            raise ApiError(404, "model_not_found", f"There is no such model here. Ask for one of: {known}.", "model")
        return one

    def choose(self, name: str, conversation: str, able: Callable[[Served], object]) -> Chosen:
        """Who answers a conversation that asked for a name: where a canary of it runs, whom that draws.

        `able` raises `ApiError` where a version cannot do what is asked. What the one that is tried cannot do is not
        drawn for either. Raises `ApiError` 404 for an unknown name, and what `able` does for production.
        """
        one = self.find(name)
        able(one)
        if one.trial is None or name == one.version:
            return Chosen(one)
        tried = self._names.get(one.trial.refs[1])
        if tried is None or not _is_able(tried, able):
            return Chosen(one)
        falls_to_it = version_for(one.trial, conversation) == tried.version
        if one.trial.how == "shadow":
            return Chosen(one, shadow=tried if falls_to_it else None)
        return Chosen(tried if falls_to_it else one, drawn=True)

    def tried(self, trial: Canary) -> Served | None:
        """The version that a canary tries, while it runs here."""
        runs = any(one.trial == trial for one in self._names.values())
        return self._names.get(trial.refs[1]) if runs else None

    def check_label(self, version: str, label: str) -> None:
        """Raises `ApiError` 400 where a version that is served here has no such label."""
        labels = next((one.labels for one in self.versions if one.version == version), None)
        if labels is not None and label not in labels.labels:
            known = ", ".join(labels.labels)
            raise ApiError(400, "unknown_label", f"{version} has no such label. It has: {known}.", "label")

    def gate(self, one: Served) -> Gate:
        return self._gates[id(one.engine.pool)]

    @contextmanager
    def using(self, one: Served) -> Iterator[None]:
        """Keep an engine from being closed while the block runs."""
        self._users[id(one.engine.pool)] += 1
        try:
            yield
        finally:
            self._users[id(one.engine.pool)] -= 1
            self._close_unused([one])

    def switch(self, fresh: Sequence[Served], gone: Sequence[Served]) -> None:
        """From now on the fresh ones answer to their names; a name of those gone that nobody took is unknown."""
        for one in gone:
            for name in one.names:
                if self._names.get(name) is one:
                    del self._names[name]
        for one in fresh:
            self._take_in(one)
        self._close_unused(gone)

    def _close_unused(self, some: Sequence[Served]) -> None:
        named = {id(one.engine.pool) for one in self._names.values()}
        for one in some:
            pool = id(one.engine.pool)
            if pool in named or self._users[pool] or pool not in self._gates:
                continue
            del self._gates[pool]
            # Off the event loop: llama.cpp joins its threads.
            task = asyncio.get_running_loop().create_task(asyncio.to_thread(one.engine.close))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def drained(self) -> None:
        """Wait until every engine that was being closed is."""
        await asyncio.gather(*self._closing)


def _is_able(one: Served, able: Callable[[Served], object]) -> bool:
    try:
        able(one)
    except ApiError:
        return False
    return True
