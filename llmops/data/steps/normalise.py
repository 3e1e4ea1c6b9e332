"""Unicode and white space in one form."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

from llmops.core.cleaning import Normalise
from llmops.data.mapping import Example
from llmops.data.steps.change import Change, Edit, alter

# What is replaced, by what, and what the ledger calls it. ZWJ and ZWNJ (U+200D, U+200C) stay: scripts and emoji need
# them, and so do the marks of direction.
RULES = (
    ("line end", re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]"), "\n"),
    ("control character", re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]"), ""),
    ("invisible character", re.compile(r"[\u00ad\u200b\u2060\ufeff]"), ""),
    ("space", re.compile(r"[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]"), " "),
    ("white space at a line's end", re.compile(r"[ \t]+(?=\n)|[ \t\n]+\Z"), ""),
    ("empty lines", re.compile(r"\n{4,}"), "\n\n\n"),
)
# Most texts need none of it, and one look says so.
SUSPECT = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\xa0\u00ad\u1680\u2000-\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff\ufffe\uffff]"
    r"|[ \t]\n|\n{4}|[ \t\n]\Z"
)


def normalise(step: Normalise, rows: Sequence[Example]) -> Iterator[Change]:
    """Rows with their texts in one form."""
    return alter(rows, in_one_form)


@lru_cache(maxsize=64)  # a turn comes again as context of the turns after it
def in_one_form(text: str) -> Edit | None:
    """The text in NFC, without what cannot be seen; None where it was so already. Doing it twice changes nothing."""
    composed = text.isascii() or unicodedata.is_normalized("NFC", text)
    if composed and not SUSPECT.search(text):
        return None
    what: dict[str, int] = {}
    made = text if composed else unicodedata.normalize("NFC", text)
    if not composed:
        what["NFC"] = 1
    for name, pattern, by in RULES:
        made, count = pattern.subn(by, made)
        if count:
            what[name] = count
    if not unicodedata.is_normalized("NFC", made):  # what stood between two characters that compose is gone
        made = unicodedata.normalize("NFC", made)
    return Edit(made, what) if made != text else None
