"""Texts that are no texts: repetition, symbols, the frame of a web page. Thresholds as Gopher's (Rae et al., 2021)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from llmops.core.cleaning import Quality
from llmops.data.mapping import Example
from llmops.data.steps.change import Change, Edit, edited, noted, texts_of

SYMBOL = re.compile(r"[^\w\s]")
FEWEST_CHARACTERS = 20  # below, a smiley is most of a text
FEWEST_WORDS = 20
# Whole lines that belong to a page, not to what it says.
FRAME = re.compile(
    r"(?im)^[ \t]*(?:"
    r"(?:please )?(?:accept|allow|reject|manage) (?:all )?(?:cookies?|cookie settings|cookie preferences)"
    r"|(?:this|our) (?:web)?site uses cookies\b.*"
    r"|(?:(?:copyright )?(?:©|\(c\)) ?(?:\d{4})?.{0,60})?all rights reserved"
    r"|(?:click|tap) here to (?:subscribe|unsubscribe|sign up|log in|read more|continue)"
    r"|(?:sign up|subscribe) (?:for|to) (?:our|the) (?:free )?newsletter"
    r"|(?:terms (?:of (?:use|service)|and conditions)|privacy policy)(?: ?[|•·/] ?(?:\w+ ?){1,4})+"
    r"|share (?:this )?(?:article )?on (?:facebook|twitter|linkedin|whatsapp)(?:[ ,|•·]+(?:\w+))*"
    r"|please enable javascript\b.*|javascript is (?:disabled|required)\b.*"
    r"|skip to (?:main )?content|back to top|lorem ipsum dolor sit amet\b.*"
    r")[ \t.!]*$\n?"
)
# One of these stands in every line of a frame.
FRAME_WORD = re.compile(
    r"(?i)cookie|rights reserved|(?:click|tap) here|newsletter|terms|privacy|share|javascript|skip to|back to top|lorem"
)


def quality(step: Quality, rows: Sequence[Example]) -> Iterator[Change]:
    """Rows without those that no model should learn from, and without lines of a page's frame."""
    for at, row in enumerate(rows):
        texts = texts_of(row)
        reason = next((found for _, text in texts if (found := fault(step, text))), "")
        if not reason and step.fewest_words and sum(len(text.split()) for _, text in texts) < step.fewest_words:
            reason = "too short"
        if reason:
            yield Change(at, reason)
        elif step.frame_lines and any("\n" in text for _, text in texts):
            cut = {field: (text, made) for field, text in texts if (made := without_frame(text))}
            if any(not made.text.strip() for _, made in cut.values()):
                yield Change(at, "only the frame of a page")
            elif cut:
                notes = tuple(noted(field, text, made) for field, (text, made) in cut.items())
                yield Change(at, row=edited(row, {field: made.text for field, (_, made) in cut.items()}), notes=notes)


def fault(step: Quality, text: str) -> str:
    """Why a text should not be learned from; the empty string where nothing is wrong with it."""
    if len(text) < FEWEST_CHARACTERS:
        return ""
    if len(text) > step.most_characters:
        return "too long"
    symbols, repeated = shares(text)
    if symbols > step.most_symbols:
        return f"mostly symbols: {symbols:.0%} of its characters"
    if repeated > step.most_repeated:
        return f"repeats itself: {repeated:.0%} of its runs of three words"
    return ""


@lru_cache(maxsize=64)  # a turn comes again as context of the turns after it
def shares(text: str) -> tuple[float, float]:
    """The share of a text's characters that are symbols, and of its runs of three words that stood in it before."""
    symbols = len(SYMBOL.findall(text)) / len(text)
    words = text.split()
    if len(words) < FEWEST_WORDS:
        return symbols, 0.0
    runs = list(zip(words, words[1:], words[2:], strict=False))
    return symbols, 1 - len(set(runs)) / len(runs)


@lru_cache(maxsize=64)
def without_frame(text: str) -> Edit | None:
    """The text without lines of a page's frame, where other lines stand beside them; None where it has none.

    A text of a single line is somebody's words, whatever they are, so it stays.
    """
    if "\n" not in text.strip() or not FRAME_WORD.search(text):
        return None
    made, count = FRAME.subn("", text)
    return Edit(made.strip("\n"), {"line of a page's frame": count}) if count else None
