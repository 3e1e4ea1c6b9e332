"""The scorer `number`: reads a number as people write it, and compares it within a tolerance."""

from __future__ import annotations

import math
from typing import NamedTuple

import re2

from llmops.core.scorers import Number
from llmops.core.suites import Question
from llmops.evals.scorers.mark import Marked, Marker, Tools, Unmarked, each, right

# What may stand between groups of three digits besides the grouping sign: spaces that do not break a line.
SPACES = "\u00a0\u2009\u202f"
# (before)(sign)(digits and decimals)(exponent)(percent). Nothing of a word stands before: the 4 of GPT4 is no number,
# and the dash of 3-5 no sign.
PATTERN = (
    r"(^|[^\w{group}{point}]|[^\w][{group}{point}])([-+−]?)"
    r"((?:\d{{1,3}}(?:[{group}{spaces}]\d{{3}})+|\d+)(?:{point}\d+)?|{point}\d+)((?:[eE][-+]?\d+)?)(\s?%)?"
)


class Read(NamedTuple):
    """A number as it was read: its value, and its text."""

    value: float
    text: str
    percent: bool


def number(knobs: Number, tools: Tools) -> Marker:
    """1 where the first or last number of the answer is an expected one."""
    pattern = _pattern(knobs.decimal)

    def mark(answer: str, question: Question) -> Marked:
        wanted = [one for text in question.expected for one in numbers(text, pattern, knobs.decimal)[:1]]
        if not wanted:
            raise Unmarked("there is no number in the expected answer")
        found = numbers(answer, pattern, knobs.decimal)
        if not found:
            return right(False, scorer_read="no number")
        one = found[0 if knobs.take == "first" else -1]
        return right(any(_same(one, expected, knobs) for expected in wanted), scorer_read=one.text)

    return each(mark)


def _pattern(decimal: str) -> object:
    signs = {"point": re2.escape(decimal), "group": re2.escape("," if decimal == "." else "."), "spaces": SPACES}
    return re2.compile(PATTERN.format(**signs))


def numbers(text: str, pattern: object, decimal: str) -> list[Read]:
    """Every number of `text`, in order. One too large for a float is none."""
    found = []
    for hit in pattern.finditer(text):  # type: ignore[attr-defined]
        sign, body, exponent, percent = (hit[group] or "" for group in range(2, 6))
        whole, _, decimals = body.partition(decimal)
        digits = "".join(one for one in whole if one.isascii() and one.isdigit())
        spelt = f"{'-' if sign in ('-', '−') else ''}{digits or '0'}.{decimals or '0'}{exponent}"
        value = float(spelt)
        if math.isfinite(value):
            found.append(Read(value, f"{sign}{body}{exponent}{percent.strip()}", bool(percent)))
    return found


def _same(one: Read, expected: Read, knobs: Number) -> bool:
    """Whether two numbers are near enough, as they stand or, where one is a percentage, as shares."""
    pairs = [(one.value, expected.value)]
    if one.percent != expected.percent:
        pairs.append(
            (
                one.value / 100 if one.percent else one.value,
                expected.value / 100 if expected.percent else expected.value,
            )
        )
    return any(
        math.isclose(said, wanted, rel_tol=0, abs_tol=max(knobs.tolerance, knobs.relative * abs(wanted)))
        for said, wanted in pairs
    )
