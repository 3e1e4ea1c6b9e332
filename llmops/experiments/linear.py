"""The cheap classifiers: one formula, softmax(features_NF @ weights_FK + bias_K), and a kind of features for each.

    majority    none; the bias is the log of each label's share
    word_list   one: the sum of the values of a text's words
    tfidf       weights of words and of pieces of words
    frozen      the standardised last hidden state of the frozen base at the end of the prompt
    nearest     the votes of the training rows whose hidden states are nearest, as logarithms
    base        the base's own log-probability of each label; only a scale and one bias a label are fitted

On disk a baseline is `baseline.json` (kind, labels, word lists) and `baseline.safetensors` (float64 arrays): no pickle.
Axes: N texts, M training rows, F features, K labels, D hidden width, W words, V words and pieces of words.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from llmops.core.errors import LlmopsError, RequestError
from llmops.core.report import SubjectKind
from llmops.store.files import write_json, writing

if TYPE_CHECKING:
    from llmops.lm.ports import Probe

CARD = "baseline.json"
ARRAYS = "baseline.safetensors"


@dataclass(frozen=True, eq=False)
class Baseline:
    """The protocol and the formula that the five share. `needs_probe`: whether the base has to be asked first."""

    labels: tuple[str, ...]
    weights_FK: np.ndarray
    bias_K: np.ndarray

    kind: ClassVar[SubjectKind]
    needs_probe: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Raise `ValueError` where the parts do not fit each other."""
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise ValueError("it needs two or more different labels")
        self._check("weights_FK", (self._width(), len(self.labels)))
        self._check("bias_K", (len(self.labels),))

    def _check(self, name: str, shape: tuple[int, ...]) -> None:
        array = getattr(self, name)
        if array.dtype != np.float64 or array.shape != shape or not np.isfinite(array).all():
            raise ValueError(f"{name} is {array.dtype}{list(array.shape)}, not {list(shape)} finite float64 numbers")

    def _width(self) -> int:
        """F."""
        raise AssertionError("each kind says its own")

    def features(self, texts: Sequence[str], probe: Probe | None) -> Any:
        """NF, dense or sparse."""
        raise AssertionError("each kind says its own")

    def probabilities(self, texts: Sequence[str], probe: Probe | None = None) -> np.ndarray:
        """Probability of each label for each text, NK; rows add up to 1. Some kinds read the texts, some the probe."""
        if self.needs_probe and probe is None:
            raise RequestError(f"{self.kind} needs the base's view of each text", "give it a probe of the same texts")
        return softmax(np.asarray(self.features(texts, probe) @ self.weights_FK + self.bias_K))

    def _seen(self, array: np.ndarray, texts: Sequence[str], width: int) -> np.ndarray:
        """What the base saw, as float64; `LlmopsError` where it is of another base or of other texts."""
        if array.shape != (len(texts), width):
            raise LlmopsError(
                f"{self.kind} reads {width} numbers for each of {len(texts)} texts, not {list(array.shape)}",
                "probe the same texts with the base that it was fitted on",
            )
        return np.asarray(array, dtype=float)

    def save(self, folder: Path) -> None:
        """Write `baseline.json` and `baseline.safetensors` into `folder`, which exists."""
        from safetensors.numpy import save_file

        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        arrays = {name: np.ascontiguousarray(part) for name, part in parts.items() if isinstance(part, np.ndarray)}
        write_json(folder / CARD, {"kind": self.kind, **{n: list(p) for n, p in parts.items() if n not in arrays}})
        with writing(folder / ARRAYS) as draft:
            save_file(arrays, draft)


class Majority(Baseline):
    """Every text gets the shares that the labels have in the training rows."""

    kind = "majority"

    def _width(self) -> int:
        return 0

    def features(self, texts: Sequence[str], probe: Probe | None) -> Any:
        return np.zeros((len(texts), 0))


@dataclass(frozen=True, eq=False)
class WordList(Baseline):
    """The sum of the values of a text's words, against one threshold; two labels only.

    The threshold, and which label is the high one, come from a logistic regression of the label on that one
    number over the training rows: labels[1] is the high one where weights_FK[0, 1] is above 0, else labels[0].
    A text is cut at white space. A piece counts as it stands (so that emoticons keep their case), else case
    folded, else case folded without the punctuation around it.
    """

    words: tuple[str, ...]
    values_W: np.ndarray

    kind = "word_list"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.labels) != 2 or len(set(self.words)) != len(self.words):
            raise ValueError("a word list needs two labels, and each word once")
        self._check("values_W", (len(self.words),))

    def _width(self) -> int:
        return 1

    @cached_property
    def _values(self) -> dict[str, float]:
        given = dict(zip(self.words, self.values_W.tolist(), strict=True))
        return {word.casefold(): value for word, value in given.items()} | given

    def _value(self, piece: str) -> float:
        for form in (piece, piece.casefold(), piece.casefold().strip(string.punctuation + "“”‘’…")):
            if form in self._values:
                return self._values[form]
        return 0.0

    def features(self, texts: Sequence[str], probe: Probe | None) -> Any:
        return np.array([[sum(map(self._value, text.split()))] for text in texts], dtype=float).reshape(-1, 1)


@dataclass(frozen=True, eq=False)
class Tfidf(Baseline):
    """TF-IDF of words 1-2 and of characters 2-5 within words, sublinear, each part of length 1."""

    words: tuple[str, ...]
    pieces: tuple[str, ...]
    idf_V: np.ndarray

    kind = "tfidf"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.words)) != len(self.words) or len(set(self.pieces)) != len(self.pieces):
            raise ValueError("a word or a piece occurs twice")
        self._check("idf_V", (self._width(),))

    def _width(self) -> int:
        return len(self.words) + len(self.pieces)

    @cached_property
    def _vectorizers(self) -> list[Any]:
        """scikit-learn's own vectorizers, rebuilt from the lists, so that fitted and loaded compute the same."""
        made, start = [], 0
        for vectorizer, vocabulary in zip(vectorizers(), (self.words, self.pieces), strict=True):
            if vocabulary:
                vectorizer.set_params(vocabulary={word: index for index, word in enumerate(vocabulary)})
                vectorizer.idf_ = self.idf_V[start : start + len(vocabulary)]
                made.append(vectorizer)
            start += len(vocabulary)
        return made

    def features(self, texts: Sequence[str], probe: Probe | None) -> Any:
        from scipy.sparse import csr_matrix, hstack

        if not len(texts) or not self._width():
            return csr_matrix((len(texts), self._width()))
        return hstack([vectorizer.transform(texts) for vectorizer in self._vectorizers], format="csr")


@dataclass(frozen=True, eq=False)
class Frozen(Baseline):
    """Logistic regression on the standardised last hidden state of the frozen base."""

    mean_D: np.ndarray
    scale_D: np.ndarray

    kind = "frozen"
    needs_probe = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("mean_D", (self._width(),))
        self._check("scale_D", (self._width(),))
        if not (self.scale_D > 0).all():
            raise ValueError("a scale is not above 0")

    def _width(self) -> int:
        return int(self.weights_FK.shape[0])

    def features(self, texts: Sequence[str], probe: Probe | None) -> Any:
        return (self._seen(cast("Probe", probe).hidden_ND, texts, self._width()) - self.mean_D) / self.scale_D


@dataclass(frozen=True, eq=False)
class Nearest(Baseline):
    """The labels of the `neighbours_1` training rows whose standardised hidden states have the highest cosine."""

    mean_D: np.ndarray
    scale_D: np.ndarray
    states_MD: np.ndarray
    sides_M: np.ndarray
    neighbours_1: np.ndarray

    kind = "nearest"
    needs_probe = True

    def __post_init__(self) -> None:
        super().__post_init__()
        rows, width = self.states_MD.shape if self.states_MD.ndim == 2 else (0, 0)
        for name, shape in (("mean_D", (width,)), ("scale_D", (width,)), ("states_MD", (rows, width))):
            self._check(name, shape)
        self._check("sides_M", (rows,))
        self._check("neighbours_1", (1,))
        if not (self.scale_D > 0).all():
            raise ValueError("a scale is not above 0")
        if not set(self.sides_M.tolist()) <= set(range(len(self.labels))) or not 1 <= self.neighbours_1[0] <= rows:
            raise ValueError("its rows have other labels, or there are fewer than it asks")

    def _width(self) -> int:
        return len(self.labels)

    def features(self, texts: Sequence[str], probe: Probe | None) -> Any:
        hidden_ND = self._seen(cast("Probe", probe).hidden_ND, texts, len(self.mean_D))
        alike_NM = unit_rows((hidden_ND - self.mean_D) / self.scale_D) @ self.states_MD.T
        return votes(alike_NM, self.sides_M.astype(int), int(self.neighbours_1[0]), len(self.labels))


class Base(Baseline):
    """The base asked without training: its log-probability of each label, times one scale, plus one bias a label."""

    kind = "base"
    needs_probe = True

    def _width(self) -> int:
        return len(self.labels)

    def features(self, texts: Sequence[str], probe: Probe | None) -> Any:
        return self._seen(cast("Probe", probe).logprobs_NK, texts, self._width())


KINDS: dict[str, type[Baseline]] = {
    "majority": Majority,
    "word_list": WordList,
    "tfidf": Tfidf,
    "frozen": Frozen,
    "nearest": Nearest,
    "base": Base,
}


def softmax(logits_NK: np.ndarray) -> np.ndarray:
    """exp(logits) / their sum, by row; NK."""
    shifted_NK = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
    return cast(np.ndarray, shifted_NK / shifted_NK.sum(axis=1, keepdims=True))


def unit_rows(states_ND: np.ndarray) -> np.ndarray:
    """Each row at length 1; a row of zeros stays."""
    return np.asarray(states_ND / np.maximum(np.linalg.norm(states_ND, axis=1, keepdims=True), 1e-12))


def votes(alike_NM: np.ndarray, sides_M: np.ndarray, neighbours: int, labels: int) -> np.ndarray:
    """Logarithm of the share of each label among the most alike rows, NK; half a vote each keeps shares above 0."""
    nearest_Nk = np.argpartition(-alike_NM, neighbours - 1, axis=1)[:, :neighbours]
    counts_NK = np.eye(labels)[sides_M[nearest_Nk]].sum(axis=1)
    return np.asarray(np.log((counts_NK + 0.5) / (neighbours + 0.5 * labels)))


def vectorizers() -> tuple[Any, Any]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    pieces = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    return words, pieces
