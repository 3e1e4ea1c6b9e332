"""Perturbed twins: rows that differ in what should not matter, or in what must. Each says what its answer must be.

A row has at most one twin of a kind, made by rule from the row alone. Where a rule would have to guess, there is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from llmops.core.dataset import Message, Row
from llmops.core.exam import TwinKind
from llmops.core.tasks import Classify, Task
from llmops.core.value import digest
from llmops.evals.exam.words import NAMES, PARAPHRASES, POLES

SYNONYMS = dict(PARAPHRASES)
WORD = re.compile(r"[A-Za-z]+")
NUMBER = re.compile(r"(?<![\w.,])\d+(?![\w]|[.,]\d)")
OPTION = re.compile(r"^(\s*\(?)([A-E])([).:]\s+)(.+)$", re.MULTILINE)
LETTER = re.compile(r"^\s*\(?([A-E])\b")
COPULA = re.compile(r"\b(is|was|are|were)\b(?! not)")
CLOUDED = re.compile(r"\b(not|no|never|but|however|nothing|nobody|neither|nor|if|would|could|should)\b|n['’]t|\?", re.I)


class Twin(NamedTuple):
    """A twin, the place of the row it was made from, and whether it must be answered otherwise than that row."""

    kind: TwinKind
    of: int
    row: Row
    flips: bool


def twins(rows: Sequence[Row], task: Task, most: int) -> list[Twin]:
    """At most `most` twins of each kind, of the first rows (in the order given) that have one."""
    found: list[Twin] = []
    for kind, make in KINDS.items():
        made: list[Twin] = []
        for place, row in enumerate(rows):
            other = make(row, task) if row.messages and len(made) < most else None
            if other is not None:
                made.append(Twin(kind, place, other, other.reply != row.reply))
        found += made
    return found


def paraphrase(row: Row, task: Task) -> Row | None:
    """Words that mean the same. The answer stays."""

    def swap(match: re.Match[str]) -> str:
        word = match.group()
        other = SYNONYMS.get(word.lower())
        return word if other is None else other.capitalize() if word[0].isupper() else other

    return _asked_otherwise(row, lambda text: WORD.sub(swap, text), "paraphrase")


def name(row: Row, task: Task) -> Row | None:
    """Other names, the same ones everywhere in the conversation. An answer that says them must say the new ones."""
    said = _everything(row)
    present = [word for word in dict.fromkeys(WORD.findall(said)) if word in NAMES]
    free = [other for other in NAMES if other not in said]
    other = dict(zip(present, _drawn(free, row.id, len(present)), strict=False))
    return _mapped(row, WORD, other, "name") if len(other) == len(present) else None


def number(row: Row, task: Task) -> Row | None:
    """Other numbers of the same length and first digit. None where the answer holds one that is not in the prompt."""
    asked = " ".join(message.content for message in row.prompt if message.role == "user")
    present = list(dict.fromkeys(NUMBER.findall(asked)))
    if not present or (not isinstance(task, Classify) and not set(NUMBER.findall(row.reply)) <= set(present)):
        return None
    other = {digits: _other_number(digits, row.id) for digits in present}
    if set(other.values()) & set(present) or len(set(other.values())) < len(other):
        return None
    return _mapped(row, NUMBER, other, "number")


def option_order(row: Row, task: Task) -> Row | None:
    """Lettered options in another order. An answer that begins with a letter must begin with the option's new one."""
    text = row.prompt[-1].content
    options = OPTION.findall(text)
    letters = [letter for _, letter, _, _ in options]
    if len(options) < 2 or letters != list("ABCDE"[: len(options)]):
        return None
    bodies = [body for *_, body in options]
    turned = iter([*bodies[1:], bodies[0]])  # what stood at B stands at A now
    new = OPTION.sub(lambda match: f"{match[1]}{match[2]}{match[3]}{next(turned)}", text)
    reply, answered = row.reply, LETTER.match(row.reply)
    if answered and answered[1] in letters:
        moved = letters[letters.index(answered[1]) - 1]
        reply = reply[: answered.start(1)] + moved + reply[answered.end(1) :]
    if row.label is not None and row.label not in letters and answered:
        return None  # a label that only looks like a letter
    return _with(row, new, reply, "option order")


def negation(row: Row, task: Task) -> Row | None:
    """A plain statement with "not" in it, where the two labels are opposites. The answer must be the other label."""
    if not isinstance(task, Classify) or row.label is None or len(task.labels) != 2:
        return None
    if tuple(sorted(label.lower() for label in task.labels)) not in {tuple(sorted(pair)) for pair in POLES}:
        return None
    text = row.prompt[-1].content
    if CLOUDED.search(text) or len(COPULA.findall(text)) != 1:
        return None
    other = next(label for label in task.labels if label != row.label)
    return _with(row, COPULA.sub(lambda match: f"{match[1]} not", text), other, "negation")


# Every kind of twin, and what makes it of a row: None where it cannot without guessing.
KINDS: dict[TwinKind, Callable[[Row, Task], Row | None]] = {
    "paraphrase": paraphrase,
    "name": name,
    "number": number,
    "option order": option_order,
    "negation": negation,
}


def _everything(row: Row) -> str:
    return " ".join(message.content for message in row.messages if message.role != "system")


def _drawn(free: Sequence[str], seed: str, count: int) -> list[str]:
    return sorted(free, key=lambda word: digest([seed, word]))[:count]


def _other_number(digits: str, seed: str) -> str:
    """Another number of as many digits; of several digits the first stays, so that a year stays of its century."""
    ranks = sorted("23456789" if len(digits) == 1 else "0123456789", key=lambda digit: digest([seed, digits, digit]))
    last = next(digit for digit in ranks if digit != digits[-1])
    return digits[:-1] + last


def _mapped(row: Row, pattern: re.Pattern[str], other: Mapping[str, str], kind: TwinKind) -> Row | None:
    """Every match replaced in the whole conversation, system prompt apart; the label of a row stays."""
    if not other:
        return None

    def swapped(text: str) -> str:
        return pattern.sub(lambda match: other.get(match.group(), match.group()), text)

    last = len(row.messages) - 1
    messages = tuple(
        message
        if message.role == "system" or (place == last and row.label is not None)
        else Message(role=message.role, content=swapped(message.content))
        for place, message in enumerate(row.messages)
    )
    return row.replace(id=_id(row, kind), messages=messages, text=swapped(row.text))


def _asked_otherwise(row: Row, change: Callable[[str], str], kind: TwinKind) -> Row | None:
    asked = row.prompt[-1].content
    new = change(asked)
    return None if new == asked else _with(row, new, row.reply, kind)


def _with(row: Row, asked: str, reply: str, kind: TwinKind) -> Row:
    """The row with another last question and another reply."""
    before, question, answer = row.messages[:-2], row.messages[-2], row.messages[-1]
    text = row.text.replace(question.content, asked) if question.content else row.text
    messages = (*before, question.replace(content=asked), answer.replace(content=reply))
    label = None if row.label is None else reply
    return row.replace(id=_id(row, kind), messages=messages, text=text, label=label)


def _id(row: Row, kind: TwinKind) -> str:
    return digest(["twin", kind, row.id])[:16]
