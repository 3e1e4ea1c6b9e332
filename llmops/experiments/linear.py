"""The cheap classifiers: one formula, softmax(features_NF @ weights_FK + bias_K), and a kind of features for each.

    majority    none; the bias is the log of each label's share
    word_list   one: the sum of the values of a text's words
    tfidf       weights of words and of pieces of words
    frozen      the standardised last hidden state of the frozen base at the end of the prompt
    nearest     the votes of the training rows whose hidden states are nearest, as logarithms
    base        the base's own log-probability of each label; only a scale and one bias a label are fitted
    few_shot    the same, some training rows asked and answered before the question

Axes: N texts, M training rows, F features, K labels, D hidden width, W words, V words and pieces of words.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from llmops.core.dataset import Message, Role
from llmops.core.errors import RequestError
from llmops.core.report import SubjectKind
from llmops.experiments.parts import OnNeighbours, OnStates, Parts, Vocabulary

if TYPE_CHECKING:
    from llmops.lm.ports import Probe


@dataclass(frozen=True, eq=False)
class Baseline(Parts):
    """The protocol and the formula that all share."""

    labels: tuple[str, ...]
    weights_FK: np.ndarray
    bias_K: np.ndarray

    def __post_init__(self) -> None:
        """Raise `ValueError` where the parts do not fit each other."""
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise ValueError("it needs two or more different labels")
        self._check("weights_FK", (self._width(), len(self.labels)))
        self._check("bias_K", (len(self.labels),))

    def _width(self) -> int:
        """F."""
        raise AssertionError("each kind says its own")

    def features(self, texts: Sequence[str], probe: Probe | None) -> Any:
        """NF, dense or sparse."""
        raise AssertionError("each kind says its own")

    def asked(self, prompt: Sequence[Message]) -> tuple[Message, ...]:
        """What the base is asked for a row's prompt."""
        return tuple(prompt)

    def probabilities(self, texts: Sequence[str], probe: Probe | None = None) -> np.ndarray:
        """Probability of each label for each text, NK; rows add up to 1. Some kinds read the texts, some the probe."""
        if self.needs_probe and probe is None:
            raise RequestError(f"{self.kind} needs the base's view of each text", "give it a probe of the same texts")
        return softmax(np.asarray(self.features(texts, probe) @ self.weights_FK + self.bias_K))


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
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(self.words, self.pieces, self.idf_V)

    def features(self, texts: Sequence[str], probe: Probe | None) -> Any:
        return self._vocabulary.features(texts)


@dataclass(frozen=True, eq=False)
class Frozen(OnStates, Baseline):
    """Logistic regression on the standardised last hidden state of the frozen base."""

    mean_D: np.ndarray
    scale_D: np.ndarray

    kind = "frozen"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_standards(self._width())

    def _width(self) -> int:
        return int(self.weights_FK.shape[0])

    def features(self, texts: Sequence[str], probe: Probe | None) -> Any:
        return self._states(texts, probe)


@dataclass(frozen=True, eq=False)
class Nearest(OnNeighbours, Baseline):
    """The labels of the `neighbours_1` training rows whose standardised hidden states have the highest cosine."""

    mean_D: np.ndarray
    scale_D: np.ndarray
    states_MD: np.ndarray
    sides_M: np.ndarray
    neighbours_1: np.ndarray

    kind = "nearest"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_neighbours("sides_M")
        if not set(self.sides_M.tolist()) <= set(range(len(self.labels))):
            raise ValueError("its rows have other labels")

    def _width(self) -> int:
        return len(self.labels)

    def features(self, texts: Sequence[str], probe: Probe | None) -> Any:
        return votes(self._alike(texts, probe), self.sides_M.astype(int), int(self.neighbours_1[0]), len(self.labels))


class Base(Baseline):
    """The base asked without training: its log-probability of each label, times one scale, plus one bias a label."""

    kind: ClassVar[SubjectKind] = "base"
    needs_probe = True

    def _width(self) -> int:
        return len(self.labels)

    def features(self, texts: Sequence[str], probe: Probe | None) -> Any:
        return self._seen(cast("Probe", probe).logprobs_NK, texts, self._width())


@dataclass(frozen=True, eq=False)
class FewShot(Base):
    """The base behind examples: a question and its answer in turn, between the system prompt and the question."""

    turns: tuple[str, ...]

    kind = "few_shot"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.turns or len(self.turns) % 2:
            raise ValueError("an example is a question and an answer")

    def asked(self, prompt: Sequence[Message]) -> tuple[Message, ...]:
        system = [message for message in prompt if message.role == "system"]
        roles: tuple[Role, ...] = ("user", "assistant")
        shown = [Message(role=roles[place % 2], content=turn) for place, turn in enumerate(self.turns)]
        return (*system, *shown, *(message for message in prompt if message.role != "system"))


KINDS: dict[str, type[Baseline]] = {
    "majority": Majority,
    "word_list": WordList,
    "tfidf": Tfidf,
    "frozen": Frozen,
    "nearest": Nearest,
    "base": Base,
    "few_shot": FewShot,
}


def softmax(logits_NK: np.ndarray) -> np.ndarray:
    """exp(logits) / their sum, by row; NK."""
    shifted_NK = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
    return cast(np.ndarray, shifted_NK / shifted_NK.sum(axis=1, keepdims=True))


def votes(alike_NM: np.ndarray, sides_M: np.ndarray, neighbours: int, labels: int) -> np.ndarray:
    """Logarithm of the share of each label among the most alike rows, NK; half a vote each keeps shares above 0."""
    nearest_Nk = np.argpartition(-alike_NM, neighbours - 1, axis=1)[:, :neighbours]
    counts_NK = np.eye(labels)[sides_M[nearest_Nk]].sum(axis=1)
    return np.asarray(np.log((counts_NK + 0.5) / (neighbours + 0.5 * labels)))
