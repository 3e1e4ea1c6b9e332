"""What the cheap rows share as files: parts that are checked, written and read again. No pickle.

`baseline.json` holds the kind and lists of words, `baseline.safetensors` float64 arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import numpy as np

from llmops.core.errors import LlmopsError
from llmops.core.report import SubjectKind
from llmops.store.files import read_json, write_json, writing

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

    from llmops.lm.ports import Probe

CARD = "baseline.json"
ARRAYS = "baseline.safetensors"
LARGEST_FILE_BYTES = 512 * 2**20


@dataclass(frozen=True, eq=False)
class Parts:
    """A cheap row made of lists of words and of arrays. `needs_probe`: whether the base has to be asked first."""

    kind: ClassVar[SubjectKind]
    needs_probe: ClassVar[bool] = False

    def _check(self, name: str, shape: tuple[int, ...]) -> None:
        array = getattr(self, name)
        if array.dtype != np.float64 or array.shape != shape or not np.isfinite(array).all():
            raise ValueError(f"{name} is {array.dtype}{list(array.shape)}, not {list(shape)} finite float64 numbers")

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


class OnStates(Parts):
    """A row that reads the frozen base's last hidden states, standardised. The arrays are fields of each kind."""

    mean_D: np.ndarray
    scale_D: np.ndarray
    needs_probe = True

    def _check_standards(self, width: int) -> None:
        self._check("mean_D", (width,))
        self._check("scale_D", (width,))
        if not (self.scale_D > 0).all():
            raise ValueError("a scale is not above 0")

    def _states(self, texts: Sequence[str], probe: Probe | None) -> np.ndarray:
        """The states of the texts, ND."""
        hidden_ND = self._seen(cast("Probe", probe).hidden_ND, texts, len(self.mean_D))
        return np.asarray((hidden_ND - self.mean_D) / self.scale_D)


class OnNeighbours(OnStates):
    """A row that asks the `neighbours_1` training rows whose states have the highest cosine; `states_MD` are theirs."""

    states_MD: np.ndarray
    neighbours_1: np.ndarray

    def _check_neighbours(self, of_each: str) -> None:
        """`of_each` is what it knows of each training row, M."""
        rows, width = self.states_MD.shape if self.states_MD.ndim == 2 else (0, 0)
        self._check_standards(width)
        for name, shape in (("states_MD", (rows, width)), (of_each, (rows,)), ("neighbours_1", (1,))):
            self._check(name, shape)
        if not 1 <= self.neighbours_1[0] <= rows:
            raise ValueError("there are fewer rows than it asks")

    def _alike(self, texts: Sequence[str], probe: Probe | None) -> np.ndarray:
        """The cosine of each text with each training row, NM."""
        return np.asarray(unit_rows(self._states(texts, probe)) @ self.states_MD.T)


Kind = TypeVar("Kind", bound=Parts)


def read_parts(folder: Path, kinds: Mapping[str, type[Kind]]) -> Kind:
    """One of `kinds` that was saved in `folder`; `LlmopsError` where a file is missing, damaged or not what it says."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as load_arrays

    try:
        for name in (CARD, ARRAYS):
            if (folder / name).stat().st_size > LARGEST_FILE_BYTES:
                raise ValueError(f"{name} is too large for a baseline")
        card = read_json(folder / CARD)
        arrays = load_arrays((folder / ARRAYS).read_bytes())
        if not isinstance(card, dict) or card.get("kind") not in list(kinds):
            raise ValueError(f"{CARD} names no known kind")
        kind: Any = kinds[card.pop("kind")]
        for name, entries in card.items():
            if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
                raise ValueError(f"{name} is not a list of words")
        lists = {name: tuple(entries) for name, entries in card.items()}
        wanted = {field.name: field.type == "tuple[str, ...]" for field in fields(kind)}
        if {**dict.fromkeys(arrays, False), **dict.fromkeys(lists, True)} != wanted:
            raise ValueError(f"a {kind.kind} is not made of {', '.join(sorted([*lists, *arrays])) or 'nothing'}")
        made: Kind = kind(**lists, **arrays)
        return made
    except (ValueError, TypeError, KeyError, AttributeError, OSError, RecursionError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LlmopsError(
            f"{folder} holds no sound baseline: {reason}", "restore it from a copy, or fit it again"
        ) from error


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """TF-IDF of words 1-2 and of characters 2-5 within words, sublinear, each part of length 1. V words and pieces."""

    words: tuple[str, ...]
    pieces: tuple[str, ...]
    idf_V: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[str]) -> Vocabulary:
        """That of some texts; none where no text holds a word of two letters."""
        vocabularies: list[tuple[str, ...]] = []
        idfs: list[np.ndarray] = []
        for vectorizer in vectorizers():
            try:
                vectorizer.fit(texts)
            except ValueError:
                vocabularies.append(())
                continue
            vocabularies.append(tuple(vectorizer.get_feature_names_out().tolist()))
            idfs.append(vectorizer.idf_)
        words, pieces = vocabularies
        return cls(words, pieces, np.concatenate([*idfs, np.zeros(0)]))

    def __len__(self) -> int:
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

    def features(self, texts: Sequence[str]) -> Any:
        """NV, sparse."""
        from scipy.sparse import csr_matrix, hstack

        if not len(texts) or not len(self):
            return csr_matrix((len(texts), len(self)))
        return hstack([vectorizer.transform(texts) for vectorizer in self._vectorizers], format="csr")


def vectorizers() -> tuple[TfidfVectorizer, TfidfVectorizer]:
    """One of words, one of pieces of words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    pieces = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    return words, pieces


def unit_rows(states_ND: np.ndarray) -> np.ndarray:
    """Each row at length 1; a row of zeros stays."""
    return np.asarray(states_ND / np.maximum(np.linalg.norm(states_ND, axis=1, keepdims=True), 1e-12))


def standards(hidden_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the scale of each number of the states, D; a number that never moves has scale 1."""
    hidden_ND = np.asarray(hidden_ND, dtype=float)
    scale_D = hidden_ND.std(axis=0)
    return hidden_ND.mean(axis=0), np.where(scale_D > 1e-12, scale_D, 1.0)
