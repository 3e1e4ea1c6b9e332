"""Rows in other languages than those that are wanted. py3langid: 0.14 ms a text, and right on short ones.

lingua took 1.8 ms in its quick mode, and brought 96 MB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from llmops.core.cleaning import Language
from llmops.data.mapping import Example
from llmops.data.steps.change import Change, texts_of

LONGEST_LOOKED_AT = 2_000  # characters: more do not make it surer


def language(step: Language, rows: Sequence[Example]) -> Iterator[Change]:
    """Rows of which the model is sure that their language is not wanted."""
    for at, row in enumerate(rows):
        text = "\n".join(text for _, text in texts_of(row))[:LONGEST_LOOKED_AT]
        if sum(map(str.isalpha, text)) >= step.fewest_characters:
            code, confidence = spoken(text)
            if code not in step.keep and confidence >= step.confidence:
                yield Change(at, f"another language: {code}")


def spoken(text: str) -> tuple[str, float]:
    """The language of a text (ISO 639-1) and how sure the model is."""
    code, confidence = _identifier().classify(text)
    return str(code), float(confidence)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
