"""Proof on a real engine: a learned model's held-out rows, asked by one reader, by 32 at once, and offline."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from typing import Any

from llmops.core.outcome import EndpointCheck
from llmops.core.proof import CheckResult, Size, caught
from llmops.pipeline.prove_letters import LABELS, LETTERS, apart, drawn, letters_recipe
from llmops.store.workspace import Workspace

READERS = 32
ROWS = {"ci": 200, "soak": 1000}
MISLED = 8  # every so many rows has the other label: so no accuracy is 1, and every answer has a margin


def checks(size: Size, at: Workspace) -> Iterator[CheckResult]:
    """One check, with an engine that mixes its readers up as the planted fault."""
    with apart("asked", at) as (folder, quiet):
        yield asked(ROWS[size], folder, quiet)


def asked(rows: int, folder: Path, at: Workspace) -> CheckResult:
    """A tiny model trained, registered and served; every answer at both doors must be the one that was measured."""
    from llmops.pipeline.engines import merged, served
    from llmops.pipeline.use import ask_held_out, asked_through
    from llmops.registry.names import resolve

    ref = _learned(rows, folder, at)
    right = [
        ask_held_out(ref, at, 1, "classify"),
        ask_held_out(ref, at, READERS, "classify"),
        ask_held_out(ref, at, READERS, "chat"),
    ]
    make = merged(at)
    mixing = served(ref, at, lambda version, base: _Mixing(make(version, base)))
    wrong = asked_through(mixing, resolve(at, ref), at, READERS, "classify")
    return caught(
        f"held-out rows asked by {READERS} readers at once",
        int(wrong.differ > 0),
        1,
        sum(one.differ for one in right),
        sum(one.n for one in right),
        note=f"accuracy offline {right[0].offline:.4f}, {_said(right)}; mixed up {wrong.endpoint:.4f}",
    )


def _said(found: Sequence[EndpointCheck]) -> str:
    doors = ("one reader", f"{READERS} readers", f"{READERS} in chat")
    return ", ".join(f"{door} {one.endpoint:.4f}" for door, one in zip(doors, found, strict=True))


def _learned(rows: int, folder: Path, at: Workspace) -> str:
    """A version whose last letters decide its answer."""
    from llmops.lm.toy_models import write_toy
    from llmops.pipeline.judge import evaluate, register
    from llmops.pipeline.make import plan, prepare, train

    write_toy(folder / "base", "llama")
    labels = [drawn(number) for number in range(rows)]
    other = dict(zip(LABELS, reversed(LABELS), strict=True))
    recipe = letters_recipe(
        "asked",
        folder,
        (
            (f"{number} {LETTERS[label]}", label if number % MISLED else other[label])
            for number, label in enumerate(labels)
        ),
    )
    run = train(plan(recipe, prepare(recipe, at), at), at)
    return register(evaluate(run.id, at).id, at).ref


class _Mixing:
    """The planted fault: an engine that, asked by several at once, answers one of them with another's prompt."""

    def __init__(self, engine: Any) -> None:
        self._engine, self._running = engine, 0
        self._before: Sequence[int] | None = None
        self.name, self.slots, self.context_tokens = engine.name, engine.slots, engine.context_tokens
        self.constrains, self.tells_chances, self.chooses = engine.constrains, engine.tells_chances, engine.chooses

    @property
    def pool(self) -> object:
        return self

    def stream(self, prompt: Any, sampling: Any) -> AsyncGenerator[Any]:
        found: AsyncGenerator[Any] = self._engine.stream(prompt, sampling)
        return found

    async def choose(self, ids: Sequence[int], options: Sequence[int]) -> list[float]:
        self._running += 1
        others, self._before = self._before, ids
        try:
            mixed = others if others is not None and self._running > 1 else ids
            found: list[float] = await self._engine.choose(mixed, options)
            return found
        finally:
            self._running -= 1

    def close(self) -> None:
        self._engine.close()
