"""The cheap rows of a rating: what each says to a text is a number.

    mean        the mean of the training ratings, for every text
    tfidf       weights of words and of pieces of words
    frozen      weights of the standardised last hidden state of the frozen base
    nearest     the mean rating of the training rows whose hidden states are nearest

N texts, M training rows, D hidden width, V words and pieces of words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from llmops.core.errors import RequestError
from llmops.experiments.parts import OnNeighbours, OnStates, Parts, Vocabulary, read_parts

if TYPE_CHECKING:
    from llmops.lm.ports import Probe


@dataclass(frozen=True, eq=False)
class Rater(Parts):
    """The protocol that all share."""

    def numbers(self, texts: Sequence[str], probe: Probe | None = None) -> np.ndarray:
        """A number for each text, N. Some kinds read the texts, some what the base saw in them."""
        if self.needs_probe and probe is None:
            raise RequestError(f"{self.kind} needs the base's view of each text", "give it a probe of the same texts")
        return np.asarray(self._numbers(texts, probe))

    def _numbers(self, texts: Sequence[str], probe: Probe | None) -> np.ndarray:
        raise AssertionError("each kind says its own")


@dataclass(frozen=True, eq=False)
class Mean(Rater):
    """The mean rating. (The median would cost a little less; the mean is what people expect.)"""

    bias_1: np.ndarray

    kind = "mean"

    def __post_init__(self) -> None:
        """Raise `ValueError` where the parts do not fit each other; so do the others."""
        self._check("bias_1", (1,))

    def _numbers(self, texts: Sequence[str], probe: Probe | None) -> np.ndarray:
        return np.full(len(texts), self.bias_1[0])


@dataclass(frozen=True, eq=False)
class Words(Rater):
    """A weight for each word and piece of a word, on the features of TF-IDF."""

    weights_V: np.ndarray
    bias_1: np.ndarray
    words: tuple[str, ...]
    pieces: tuple[str, ...]
    idf_V: np.ndarray

    kind = "tfidf"

    def __post_init__(self) -> None:
        if len(set(self.words)) != len(self.words) or len(set(self.pieces)) != len(self.pieces):
            raise ValueError("a word or a piece occurs twice")
        self._check("weights_V", (len(self._vocabulary),))
        self._check("idf_V", (len(self._vocabulary),))
        self._check("bias_1", (1,))

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(self.words, self.pieces, self.idf_V)

    def _numbers(self, texts: Sequence[str], probe: Probe | None) -> np.ndarray:
        return np.asarray(self._vocabulary.features(texts) @ self.weights_V + self.bias_1)


@dataclass(frozen=True, eq=False)
class States(OnStates, Rater):
    """A weight for each number of the standardised hidden state."""

    weights_D: np.ndarray
    bias_1: np.ndarray
    mean_D: np.ndarray
    scale_D: np.ndarray

    kind = "frozen"

    def __post_init__(self) -> None:
        self._check("weights_D", (len(self.weights_D),))
        self._check_standards(len(self.weights_D))
        self._check("bias_1", (1,))

    def _numbers(self, texts: Sequence[str], probe: Probe | None) -> np.ndarray:
        return np.asarray(self._states(texts, probe) @ self.weights_D + self.bias_1)


@dataclass(frozen=True, eq=False)
class Neighbours(OnNeighbours, Rater):
    """The mean rating of the nearest training rows."""

    mean_D: np.ndarray
    scale_D: np.ndarray
    states_MD: np.ndarray
    ratings_M: np.ndarray
    neighbours_1: np.ndarray

    kind = "nearest"

    def __post_init__(self) -> None:
        self._check_neighbours("ratings_M")

    def _numbers(self, texts: Sequence[str], probe: Probe | None) -> np.ndarray:
        return mean_of(self._alike(texts, probe), self.ratings_M, int(self.neighbours_1[0]))


RATERS: dict[str, type[Rater]] = {"mean": Mean, "tfidf": Words, "frozen": States, "nearest": Neighbours}


def load_rater(folder: Path) -> Rater:
    """The rater that was saved in `folder`; `LlmopsError` where a file is missing, damaged or not what it says."""
    return read_parts(folder, RATERS)


def mean_of(alike_NM: np.ndarray, ratings_M: np.ndarray, neighbours: int) -> np.ndarray:
    """The mean rating of the most alike training rows, N."""
    nearest_Nk = np.argpartition(-alike_NM, neighbours - 1, axis=1)[:, :neighbours]
    return np.asarray(ratings_M[nearest_Nk].mean(axis=1))
