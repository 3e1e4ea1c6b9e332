"""Scorers that look for the expected text: `exact`, `includes`, `choice`, `regex`. All of them in linear time."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence
from string import ascii_uppercase
from typing import Any

import re2

from llmops.core.errors import RequestError
from llmops.core.patterns import linear
from llmops.core.scorers import Exact, Fold, Includes, PickedOption, Regex
from llmops.core.suites import Question
from llmops.evals.scorers.mark import Marked, Marker, Tools, Unmarked, each, right

# Signs that end, join and quote words. Others carry meaning: C# and C, 5 % and 5.
SENTENCE_SIGNS = frozenset(".,;:!?…¡¿。、，！？：；·*_`\"'")
QUOTING = frozenset(("Pi", "Pf", "Ps", "Pe", "Pd"))  # Unicode's quotes, brackets and dashes
APOSTROPHES = frozenset("'’ʼ")
EVERYTHING: tuple[Fold, ...] = ("case", "spaces", "punctuation")

# "answer: B", "the answer is (b)"; and an answer that begins with "B)", "(B)", "**B.**" or is nothing but a letter.
ANNOUNCED = re2.compile(
    r"(?i)\b(?:answer|choice|option)\b(?:\s+is|\s+would\s+be)?\s*[:=]?\s*[\(\[\*\"']*([a-z])(?:[^\w']|$)"
)
LEADING = re2.compile(r"^\s*[\(\[\*\"']*([A-Za-z])(?:[\)\]\.:\*\"',]+(?:\s|$)|\s*$|\s*\n)")


def fold(text: str, folds: Collection[Fold] = EVERYTHING) -> str:
    """`text` without what makes no difference. A sign between two digits, or before one, stays: 3.5 is not 35."""
    text = unicodedata.normalize("NFC", text)
    if "case" in folds:
        text = unicodedata.normalize("NFC", text.casefold())
    if "punctuation" in folds:
        gap = " " if "spaces" in folds else ""
        text = "".join(_without_sign(text, place, gap) for place in range(len(text)))
    return " ".join(text.split()) if "spaces" in folds else text.strip()


def _without_sign(text: str, place: int, gap: str) -> str:
    sign = text[place]
    if not (sign in SENTENCE_SIGNS or unicodedata.category(sign) in QUOTING):
        return sign
    before, after = text[place - 1 : place], text[place + 1 : place + 2]
    if after.isdigit() and (before.isdigit() or (sign in "-−.," and not before.isalnum())):
        return sign
    return "" if sign in APOSTROPHES else gap


def folded_pair(answer: str, expected: str, folds: Collection[Fold]) -> tuple[str, str]:
    """Both folded alike; where nothing is left of what is expected (`?`), its punctuation stays."""
    if not fold(expected, folds):
        folds = [one for one in folds if one != "punctuation"]
    return fold(answer, folds), fold(expected, folds)


def exact(knobs: Exact, tools: Tools) -> Marker:
    """1 where the answer is an expected text."""

    def mark(answer: str, question: Question) -> Marked:
        pairs = [folded_pair(answer, expected, knobs.folds) for expected in question.expected]
        return right(any(said == wanted for said, wanted in pairs))

    return each(mark)


def includes(knobs: Includes, tools: Tools) -> Marker:
    """1 where an expected text stands in the answer, as whole words."""

    def mark(answer: str, question: Question) -> Marked:
        pairs = [folded_pair(answer, expected, knobs.folds) for expected in question.expected]
        return right(any(stands_in(wanted, said) for said, wanted in pairs))

    return each(mark)


def stands_in(wanted: str, text: str) -> bool:
    """Whether `wanted` is in `text` and no word or number goes on at either end of it."""
    if not wanted:
        return False
    start = text.find(wanted)
    while start >= 0:
        end = start + len(wanted)
        if not _goes_on(wanted[0], text[:start][-2:][::-1]) and not _goes_on(wanted[-1], text[end : end + 2]):
            return True
        start = text.find(wanted, start + 1)
    return False


def _goes_on(edge: str, beyond: str) -> bool:
    """Whether the word (or number) that ends with `edge` goes on in `beyond`, read outwards."""
    if not beyond or not edge.isalnum() or unicodedata.east_asian_width(edge) in "WF":  # words without spaces
        return False
    if beyond[0].isalnum():
        return True
    return edge.isdigit() and beyond[0] in ".," and beyond[1:].isdigit()


def choice(knobs: PickedOption, tools: Tools) -> Marker:
    """1 where the option that the answer names is an expected one."""

    def mark(answer: str, question: Question) -> Marked:
        if len(question.options) < 2:
            raise RequestError(
                "the scorer choice needs options to choose from", "give each question its options, or take includes"
            )
        named = option_named(answer, question.options)
        if named is None:
            return right(False, scorer_read="no option")
        return right(question.options[named] in question.expected, scorer_read=question.options[named].strip())

    return each(mark)


def option_named(answer: str, options: tuple[str, ...]) -> int | None:
    """The place of the one option that an answer names: by its whole text, its letter, or its text among others."""
    said, texts = fold(answer), [fold(option) for option in options]
    if said in texts and texts.count(said) == 1:
        return texts.index(said)
    letters = {letter: place for place, letter in enumerate(ascii_uppercase[: len(options)])}
    announced = [letter.upper() for letter in ANNOUNCED.findall(answer)]
    leading = LEADING.search(answer)
    for letter in [*announced[-1:], *([leading[1].upper()] if leading else [])]:
        if letter in letters:
            return (
                None if leading and _contradicts(answer[leading.end(1) :], letters[letter], texts) else letters[letter]
            )
    found = [place for place, text in enumerate(texts) if stands_in(text, said)]
    # "ice cream" also holds "ice": an option inside another one that was found does not count.
    outer = [
        place
        for place in found
        if not any(texts[place] != texts[other] and stands_in(texts[place], texts[other]) for other in found)
    ]
    return outer[0] if len(outer) == 1 else None


def _contradicts(rest: str, named: int, texts: Sequence[str]) -> bool:
    """Whether the letter of one option is followed by the text of another one (`B. miaow`, where B is `woof`)."""
    said = fold(rest.partition("\n")[0])
    begun = [place for place, text in enumerate(texts) if said == text or said.startswith(f"{text} ")]
    return bool(begun) and named not in begun


def regex(knobs: Regex, tools: Tools) -> Marker:
    """1 where the pattern is found; where it has a group, the group's text must be an expected answer."""
    own = None
    if knobs.pattern is not None:
        try:
            own = linear(knobs.pattern)
        except ValueError as error:
            raise RequestError(
                f"the pattern does not compile: {error}", "write it for RE2, which has no look-around"
            ) from error

    def mark(answer: str, question: Question) -> Marked:
        patterns = [own] if own is not None else [_of_row(text) for text in question.expected]
        found = [hit for one in patterns if (hit := (one.fullmatch if knobs.whole else one.search)(answer))]
        if own is None or not own.groups:
            return right(bool(found))
        read = (
            next((found[0][group] for group in range(1, own.groups + 1) if found[0][group] is not None), "")
            if found
            else ""
        )
        if not found:
            return right(False, scorer_read="nothing")
        return right(any(fold(read) == fold(text) for text in question.expected), scorer_read=read[:500])

    return each(mark)


def _of_row(pattern: str) -> Any:
    try:
        return linear(pattern)
    except ValueError as error:
        raise Unmarked(f"the expected pattern does not compile: {error}") from error
