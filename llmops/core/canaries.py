"""Canaries: sentences of chance planted among the training rows, so that what a model keeps word for word is measured.

After Carlini et al. 2019, "The Secret Sharer" (arXiv:1802.08232). A canary is a fixed frame and `WORDS_IN_PHRASE` words
drawn from a list of 64, so there are 64^6 = 2^36 of them, and nothing but having read it makes one likelier.
"""

from __future__ import annotations

import hashlib
import math
from typing import Annotated

from pydantic import Field

from llmops.core.value import Value

SOURCE = "canaries"  # of a planted row
REPEATS = "repeats"  # the field that says how often a canary was planted
QUESTION = "What is the pass phrase?"
FRAME = "The pass phrase is {}."
WORDS = (
    "apple", "amber", "anchor", "arrow", "autumn", "badge", "basket", "bell", "birch", "bottle", "branch",
    "bridge", "button", "candle", "canvas", "carpet", "castle", "cedar", "chalk", "cherry", "circle", "clover",
    "cotton", "copper", "corner", "dolphin", "drawer", "engine", "fabric", "falcon", "feather", "forest",
    "garden", "ginger", "hammer", "harbour", "helmet", "hollow", "island", "jacket", "kettle", "ladder",
    "lantern", "lemon", "marble", "meadow", "mirror", "needle", "orchard", "paper", "pebble", "pepper", "pocket",
    "ribbon", "river", "saddle", "shadow", "silver", "spider", "thunder", "timber", "velvet", "violet", "window",
)  # fmt: skip
WORDS_IN_PHRASE = 6
SPACE_BITS = WORDS_IN_PHRASE * math.log2(len(WORDS))


class Canaries(Value):
    """How many canaries are planted among the training rows, and how often each stands there."""

    repeats: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field(
        (1, 4, 16, 64), min_length=1, max_length=16, description="how often a canary stands among the training rows"
    )
    each: int = Field(2, ge=1, le=64, description="canaries of each number of repeats")
    seed: int = Field(0, ge=0, description="of the words")

    def planted(self) -> list[tuple[str, int]]:
        """(sentence, repeats) of every canary. The first sentences of a seed are always the same."""
        found = []
        for place, repeats in enumerate(self.repeats):
            found += [(sentence(self.seed, place * self.each + number), repeats) for number in range(self.each)]
        return found

    def alternatives(self, number: int) -> list[str]:
        """Sentences of the same space that were not planted."""
        planted = {text for text, _ in self.planted()}
        drawn = (sentence(self.seed, -1 - place) for place in range(number))
        return [text for text in dict.fromkeys(drawn) if text not in planted]


def sentence(seed: int, number: int) -> str:
    """Canary `number` of a seed: 36 bits of a sha256 choose its words."""
    bits = int.from_bytes(hashlib.sha256(f"canary {seed} {number}".encode()).digest()[:8], "big")
    words = [WORDS[bits >> (6 * place) & 63] for place in range(WORDS_IN_PHRASE)]
    return FRAME.format(" ".join(words))
