"""Rows on the frozen base's hidden states besides the linear one: nearest neighbours, and numbers instead of labels.

N rows asked, M training rows, D hidden width, K labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from llmops.core.dataset import Row
from llmops.experiments.baselines import targets
from llmops.experiments.linear import Nearest, unit_rows, votes

if TYPE_CHECKING:
    from llmops.lm.ports import Probe

NEIGHBOURS = (1, 3, 5, 9, 15, 25)
RIDGE_ALPHAS = (1.0, 10.0, 100.0, 1000.0, 10_000.0)


def fit_nearest(rows: Sequence[Row], labels: Sequence[str], probe: Probe) -> Nearest:
    """The training rows' states, and the number of neighbours that answers them best, each row left out in turn."""
    sides_M = targets(rows, labels)
    mean_D, scale_D, states_MD = _standardised(probe.hidden_ND)
    alike_MM = _others(states_MD)
    able = [number for number in NEIGHBOURS if number < len(rows)] or [1]
    right = [(votes(alike_MM, sides_M, number, len(labels)).argmax(axis=1) == sides_M).mean() for number in able]
    best = np.array([float(able[int(np.argmax(right))])])
    weights_KK, bias_K = np.eye(len(labels)), np.zeros(len(labels))
    return Nearest(tuple(labels), weights_KK, bias_K, mean_D, scale_D, states_MD, sides_M.astype(float), best)


def nearest_numbers(hidden_MD: np.ndarray, ratings_M: np.ndarray) -> Numbers:
    """The mean rating of the nearest training rows; their number chosen as in `fit_nearest`, by absolute error."""
    mean_D, scale_D, states_MD = _standardised(hidden_MD)
    alike_MM = _others(states_MD)
    able = [number for number in NEIGHBOURS if number < len(ratings_M)] or [1]
    errors = [np.abs(_mean_of(alike_MM, ratings_M, number) - ratings_M).mean() for number in able]
    number = able[int(np.argmin(errors))]

    def said(asked_ND: np.ndarray) -> np.ndarray:
        alike_NM = unit_rows((np.asarray(asked_ND, dtype=float) - mean_D) / scale_D) @ states_MD.T
        return _mean_of(alike_NM, ratings_M, number)

    return said


def frozen_numbers(hidden_MD: np.ndarray, ratings_M: np.ndarray) -> Numbers:
    """Ridge regression on the standardised states; its strength by leave-one-out on the training rows."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RidgeCV(alphas=RIDGE_ALPHAS))
    model.fit(np.asarray(hidden_MD, dtype=float), ratings_M)
    return lambda asked_ND: np.asarray(model.predict(np.asarray(asked_ND, dtype=float)))


Numbers = Callable[[np.ndarray], np.ndarray]
STATES: dict[str, Callable[[np.ndarray, np.ndarray], Numbers]] = {"frozen": frozen_numbers, "nearest": nearest_numbers}


def _standardised(hidden_MD: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    hidden_MD = np.asarray(hidden_MD, dtype=float)
    mean_D, scale_D = hidden_MD.mean(axis=0), hidden_MD.std(axis=0)
    scale_D = np.where(scale_D > 1e-12, scale_D, 1.0)
    return mean_D, scale_D, unit_rows((hidden_MD - mean_D) / scale_D)


def _others(states_MD: np.ndarray) -> np.ndarray:
    """Cosine of each training row with every other; none with itself."""
    alike_MM: np.ndarray = states_MD @ states_MD.T
    np.fill_diagonal(alike_MM, -np.inf)
    return alike_MM


def _mean_of(alike_NM: np.ndarray, ratings_M: np.ndarray, neighbours: int) -> np.ndarray:
    nearest_Nk = np.argpartition(-alike_NM, neighbours - 1, axis=1)[:, :neighbours]
    return np.asarray(ratings_M[nearest_Nk].mean(axis=1))
