"""Made-up rows for proofs: sentences of random words, and every shape made of them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

Rows = list[dict[str, Any]]

SYLLABLES = ("ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru", "sa", "te", "vi", "zo", "shi", "tan")
WORDS = tuple(first + second for first in SYLLABLES for second in SYLLABLES)


def sentence(rng: Random, words: int = 14) -> str:
    """Some words in no order that means anything, so that no two are near duplicates."""
    return " ".join(rng.choice(WORDS) for _ in range(words)).capitalize() + "."


def turns(rng: Random, count: int = 1, system: bool = False) -> list[dict[str, str]]:
    """A conversation of `count` questions with their replies."""
    talk = [{"role": "system", "content": "Answer in one sentence."}] if system else []
    for _ in range(count):
        talk += [{"role": "user", "content": sentence(rng)}, {"role": "assistant", "content": sentence(rng)}]
    return talk


def in_sharegpt(talk: list[dict[str, str]]) -> list[dict[str, str]]:
    """The same in the other notation."""
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    return [{"from": names[turn["role"]], "value": turn["content"]} for turn in talk]


def made(row: Callable[[Random, int], dict[str, Any]], count: int = 120, seed: str = "rows") -> Rows:
    """`count` rows, the same on any machine."""
    rng = Random(seed)
    return [row(rng, number) for number in range(count)]


def labelled(rng: Random, number: int) -> dict[str, Any]:
    return {"text": sentence(rng), "label": "ab"[number % 2]}


def talk(rng: Random, number: int) -> dict[str, Any]:
    return {"messages": turns(rng, 1 + number % 3, system=number % 2 == 0)}


def pair(rng: Random, number: int) -> dict[str, Any]:
    return {"prompt": sentence(rng), "reply": sentence(rng)}


def instruction(rng: Random, number: int) -> dict[str, Any]:
    return {"instruction": sentence(rng), "input": sentence(rng) if number % 3 else "", "output": sentence(rng)}


def preferred(rng: Random, number: int) -> dict[str, Any]:
    return {"prompt": sentence(rng), "chosen": sentence(rng), "rejected": sentence(rng)}


def thumbed(rng: Random, number: int) -> dict[str, Any]:
    return {"prompt": sentence(rng), "completion": sentence(rng), "label": number % 2 == 0}


def rated(rng: Random, number: int) -> dict[str, Any]:
    return {"text": sentence(rng), "number": round(rng.uniform(0, 5), 1)}


def running(rng: Random, number: int) -> dict[str, Any]:
    return {"text": " ".join(sentence(rng) for _ in range(4))}
