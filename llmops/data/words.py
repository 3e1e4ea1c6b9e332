"""A list of words with a number each, read as data."""

from __future__ import annotations

import math
from pathlib import Path

from llmops.core.errors import RequestError
from llmops.data.record import text_lines


def read_word_list(path: Path) -> dict[str, float]:
    """Word: number, from lines of a word, a tab and a number (more cells may follow). A later line wins.

    Raises `RequestError` naming the line that is none.
    """
    words: dict[str, float] = {}
    for line, text, fault in text_lines(path):
        if not text.strip():
            continue
        word, _, rest = text.partition("\t")
        try:
            number = float(rest.partition("\t")[0])
        except ValueError:
            number = math.nan
        if fault or not word or not math.isfinite(number):
            what = f"{path.name}, line {line}: {fault or 'no word, tab and number'}"
            raise RequestError(what, "name a list of words with a number each")
        words[word] = number
    if not words:
        raise RequestError(f"{path.name} holds no words", "name a list of words with a number each")
    return words
