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
from typing import TYPE_CHECKING, cast

import numpy as np

from llmops.core.errors import RequestError
from llmops.experiments.parts import Parts, Vocabulary, read_parts, unit_rows

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
class States(Rater):
    """A weight for each number of the standardised hidden state."""

    weights_D: np.ndarray
    bias_1: np.ndarray
    mean_D: np.ndarray
    scale_D: np.ndarray

    kind = "frozen"
    needs_probe = True

    def __post_init__(self) -> None:
        for name in ("weights_D", "mean_D", "scale_D"):
            self._check(name, (len(self.weights_D),))
        self._check("bias_1", (1,))
        if not (self.scale_D > 0).all():
            raise ValueError("a scale is not above 0")

    def _numbers(self, texts: Sequence[str], probe: Probe | None) -> np.ndarray:
        hidden_ND = self._seen(cast("Probe", probe).hidden_ND, texts, len(self.mean_D))
        return np.asarray((hidden_ND - self.mean_D) / self.scale_D @ self.weights_D + self.bias_1)


@dataclass(frozen=True, eq=False)
class Neighbours(Rater):
    """The mean rating of the `neighbours_1` training rows whose standardised hidden states have the highest cosine."""

    mean_D: np.ndarray
    scale_D: np.ndarray
    states_MD: np.ndarray
    ratings_M: np.ndarray
    neighbours_1: np.ndarray

    kind = "nearest"
    needs_probe = True

    def __post_init__(self) -> None:
        rows, width = self.states_MD.shape if self.states_MD.ndim == 2 else (0, 0)
        for name, shape in (("mean_D", (width,)), ("scale_D", (width,)), ("states_MD", (rows, width))):
            self._check(name, shape)
        self._check("ratings_M", (rows,))
        self._check("neighbours_1", (1,))
        if not (self.scale_D > 0).all() or not 1 <= self.neighbours_1[0] <= rows:
            raise ValueError("a scale is not above 0, or there are fewer rows than it asks")

    def _numbers(self, texts: Sequence[str], probe: Probe | None) -> np.ndarray:
        hidden_ND = self._seen(cast("Probe", probe).hidden_ND, texts, len(self.mean_D))
        alike_NM = unit_rows((hidden_ND - self.mean_D) / self.scale_D) @ self.states_MD.T
        return mean_of(alike_NM, self.ratings_M, int(self.neighbours_1[0]))


RATERS: dict[str, type[Rater]] = {"mean": Mean, "tfidf": Words, "frozen": States, "nearest": Neighbours}


def load_rater(folder: Path) -> Rater:
    """The rater that was saved in `folder`; `LlmopsError` where a file is missing, damaged or not what it says."""
    return read_parts(folder, RATERS)


def mean_of(alike_NM: np.ndarray, ratings_M: np.ndarray, neighbours: int) -> np.ndarray:
    """The mean rating of the most alike training rows, N."""
    nearest_Nk = np.argpartition(-alike_NM, neighbours - 1, axis=1)[:, :neighbours]
    return np.asarray(ratings_M[nearest_Nk].mean(axis=1))
