"""Refusals before step 1: each planted fault is found and named, and rows as they should be pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from llmops.core.dataset import Message, Row
from llmops.core.errors import RequestError
from llmops.lm.base import load_tokenizer
from llmops.lm.check import refuse, round_trip
from llmops.lm.render import Example, Renderer

TALKS = [
    ("user", "the cat"), ("assistant", "sat on the mat"), ("user", "and the dog?"), ("assistant", "sat on the cat"),
]  # fmt: skip


@pytest.fixture(scope="module")
def renderer(tiny_base: Path) -> Renderer:
    return Renderer(load_tokenizer(tiny_base))


def row(turns: Sequence[tuple[str, str]], number: int = 0) -> Row:
    messages = tuple(Message(role=role, content=text) for role, text in turns)  # type: ignore[arg-type]
    return Row(id=f"r{number}", messages=messages, text="x", group="g", source="path:x.jsonl", line=number + 2)


ROWS = [row(TALKS[:2], 0), row(TALKS, 1), row([("system", "Be kind."), *TALKS], 2)]
TEXT = Row(id="t", messages=(), text="the cat sat on the mat", group="g", source="path:x.txt", line=1)

Spoil = Callable[[Example, Renderer], Example]
SPOILT: dict[str, tuple[Spoil, str]] = {
    "everything masked": (lambda one, _: Example(one.ids, [False] * len(one.ids)), "would train on nothing"),
    "only the end trained": (
        lambda one, _: Example(one.ids, [False] * (len(one.ids) - 1) + [True]),
        "would train on nothing",
    ),
    "the beginning twice": (
        lambda one, reads: Example([reads.tokenizer.bos_token_id, *one.ids], [False, *one.trained]),
        "begin twice",
    ),
    "the end token lost": (lambda one, _: Example(one.ids[:-1], one.trained[:-1]), "never train their end token"),
    "the end token masked": (lambda one, _: Example(one.ids, [*one.trained[:-1], False]), "never train their end"),
    "the mask one token late": (lambda one, _: Example(one.ids, [False, *one.trained[:-1]]), "does not lie on the"),
    "the question trained": (lambda one, _: Example(one.ids, [True] * len(one.ids)), "train on their first token"),
}  # fmt: skip


@pytest.mark.parametrize("spoilt", SPOILT.values(), ids=SPOILT)
def test_a_planted_fault_is_refused_and_its_row_named(renderer: Renderer, spoilt: tuple[Spoil, str]) -> None:
    spoil, says = spoilt
    examples = [renderer.row(one) for one in ROWS]
    examples[1] = spoil(examples[1], renderer)
    with pytest.raises(RequestError) as error:
        refuse(ROWS, examples, renderer)
    assert says in error.value.what and "r1 (path:x.jsonl, line 3)" in error.value.what


def test_rows_as_they_should_be_pass_with_system_prompts_several_turns_and_running_text(renderer: Renderer) -> None:
    rows = [*ROWS, TEXT]
    refuse(rows, [renderer.row(one) for one in rows], renderer)
    for one in ROWS:
        trip = round_trip(one, renderer.row(one), renderer)
        assert trip is not None and trip.same
    assert round_trip(TEXT, renderer.row(TEXT), renderer) is None


def test_a_round_trip_shows_the_first_token_that_differs(renderer: Renderer) -> None:
    good = renderer.row(ROWS[1])
    ids = [*good.ids[:9], good.ids[0], *good.ids[10:]]
    trip = round_trip(ROWS[1], Example(ids, good.trained), renderer)
    assert trip is not None and not trip.same and trip.at == 9 and trip.ours != trip.theirs
