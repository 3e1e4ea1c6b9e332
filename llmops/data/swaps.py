"""Counterfactuals: a text with one group's words in place of another's, where that leaves a sentence."""

from __future__ import annotations

import re
from dataclasses import dataclass

from llmops.core.dataset import Message, Row
from llmops.core.review import Terms
from llmops.data.mapping import short_hash
from llmops.data.terms import SWAPS, TERMS

# After "her", these show that it was an object ("told her that"), so that "him" is meant and not "his".
AFTER_AN_OBJECT = frozenset((
    "a", "an", "and", "are", "as", "at", "because", "but", "by", "for", "from", "had", "has", "he", "how", "if", "in",
    "into", "is", "it", "not", "of", "off", "on", "or", "our", "out", "over", "she", "so", "than", "that", "the",
    "then", "there", "they", "this", "to", "under", "until", "up", "was", "we", "were", "what", "when", "where",
    "which", "while", "who", "why", "with", "you", "your",
))  # fmt: skip
ARTICLE = re.compile(r"\b([Aa])(n?)(\s+)$")
NEXT_WORD = re.compile(r"\s+(\w+)")


@dataclass(frozen=True)
class Swap:
    """One group's words, and what stands in their place."""

    axis: str
    before: str
    after: str
    words: dict[str, str]

    @property
    def name(self) -> str:
        return f"{self.before} > {self.after}"

    def text(self, text: str) -> str | None:
        """`text` with the words swapped; None where it names no such group, names both, or would not read well."""
        found = list(term_pattern(self.words).finditer(text))
        if not found or term_pattern(tuple(self.words.values())).search(text):
            return None
        parts: list[str] = []
        end = 0
        for match in found:
            word = _word(match, text, self.words)
            if word is None:
                return None
            between = text[end : match.start()]
            parts += [_article(between, word) if end <= match.start() else between, _cased(word, match.group())]
            end = match.end()
        return "".join([*parts, text[end:]])

    def row(self, row: Row) -> Row | None:
        """The row's counterfactual: the same label, side and origin, a new id, and a field that says what was made."""
        said = row.messages[:-1] if row.label is not None else row.messages
        texts = [message.content if message.role == "system" else self.text(message.content) for message in said]
        text = self.text(row.text)
        spoken = [new for message, new in zip(said, texts, strict=True) if message.role != "system"]
        if text is None or not any(new is not None for new in spoken):
            return None
        messages = tuple(
            Message(role=message.role, content=message.content if new is None else new)
            for message, new in zip(said, texts, strict=True)
        )
        return row.replace(
            id=short_hash("swap", self.name, row.id),
            messages=(*messages, *row.messages[len(said) :]),
            text=text,
            fields={**row.fields, "made": f"swap: {self.name}", "made_from": row.id},
        )


def swaps(terms: Terms) -> list[Swap]:
    """Every swap of the two tables, in both directions; an axis of the recipe's own is swapped among all its groups."""
    known = {**TERMS, **terms}
    pairs = [(axis, one, other) for axis, one, other in SWAPS if axis not in terms]
    for axis, groups in terms.items():
        names = list(groups)
        pairs += [(axis, one, other) for place, one in enumerate(names) for other in names[place + 1 :]]
    made = []
    for axis, one, other in pairs:
        for before, after in ((one, other), (other, one)):
            words = dict(zip(known[axis][before], known[axis][after], strict=False))
            made.append(Swap(axis, before, after, words))
    return made


def term_pattern(words: dict[str, str] | tuple[str, ...]) -> re.Pattern[str]:
    """Finds any of the words. Names and peoples are written with a capital, and are found in no other form."""
    parts = []
    for word in sorted(words, key=lambda word: (-len(word), word)):
        written = re.escape(word)
        parts.append(written if word[0].isupper() else f"(?i:{written})")
    return re.compile(rf"(?<![\w'’-])(?:{'|'.join(parts)})(?![\w-])")  # `re` keeps the last 512 patterns


def _word(match: re.Match[str], text: str, words: dict[str, str]) -> str | None:
    """What stands in a word's place; None where a person would have to decide."""
    word = match.group()
    given = words.get(word) or words[word.lower()]
    after = NEXT_WORD.match(text, match.end())
    following = after.group(1).lower() if after else ""
    if word.lower() == "her":  # "her" is "him" or "his"
        return None if following and following not in AFTER_AN_OBJECT else "him"
    if word.lower() == "him":
        return "her"
    if word.lower() == "his":
        return "her" if following else "hers"
    if word.lower() == "hers":
        return "his"
    return given


def _cased(word: str, like: str) -> str:
    """`word` in capitals or with a capital where `like` is."""
    if len(like) > 1 and like.isupper():
        return word.upper()
    return word[0].upper() + word[1:] if like[0].isupper() else word


def _article(between: str, word: str) -> str:
    """The text before a word, its article "a" or "an" fitted to the word."""

    def fitted(match: re.Match[str]) -> str:
        return f"{match[1]}{'n' if word[0].lower() in 'aeiou' else ''}{match[3]}"

    return ARTICLE.sub(fitted, between)
