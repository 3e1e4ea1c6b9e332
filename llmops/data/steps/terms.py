"""Rows that hold terms of a list."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from llmops.core.cleaning import Step, Terms
from llmops.core.context import Surroundings
from llmops.core.errors import RequestError
from llmops.core.private import compiled
from llmops.data.mapping import Example
from llmops.data.record import text_lines
from llmops.data.steps.change import Change, texts_of
from llmops.store.catalogue import DATA
from llmops.store.sources import fetch


def with_words(step: Step, world: Surroundings) -> Step:
    """The step with the words of its list in it, so that what it does depends on nothing else."""
    if not isinstance(step, Terms) or step.list_ is None:
        return step
    entry = DATA.get(step.list_)
    found = fetch(entry.address if entry else step.list_, entry.sha256 if entry else None, world, entry)
    lines = [(text.strip().casefold(), fault) for _, text, fault in text_lines(found.path)]
    if not lines or any(fault for _, fault in lines):
        raise RequestError(f"{step.list_} is no list of terms, one a line, in UTF-8", "name another list in data.steps")
    words = sorted({*(text for text, _ in lines if text), *(word.casefold() for word in step.words)})
    return step.replace(list_=None, words=tuple(words))


def terms(step: Terms, rows: Sequence[Example]) -> Iterator[Change]:
    """Rows with more than `most` of the terms, as whole words in any case. The reason says how many, and not which."""
    if not step.words:
        return
    pattern = compiled(rf"(?i)\b(?:{'|'.join(map(re.escape, step.words))})\b")
    for at, row in enumerate(rows):
        found = sum(1 for _ in pattern.finditer("\n".join(text for _, text in texts_of(row))))
        if found > step.most:
            yield Change(at, f"listed terms: {found}")
