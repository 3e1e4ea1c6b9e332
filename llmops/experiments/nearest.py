"""The labels of the training rows whose hidden states are nearest. M training rows, D hidden width, K labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from llmops.core.dataset import Row
from llmops.experiments.baselines import targets
from llmops.experiments.linear import Nearest, votes
from llmops.experiments.parts import standards, unit_rows

if TYPE_CHECKING:
    from llmops.lm.ports import Probe

NEIGHBOURS = (1, 3, 5, 9, 15, 25)


def fit_nearest(rows: Sequence[Row], labels: Sequence[str], probe: Probe) -> Nearest:
    """The training rows' states, and the number of neighbours that answers them best, each row left out in turn."""
    sides_M = targets(rows, labels)
    mean_D, scale_D = standards(probe.hidden_ND)
    states_MD = unit_rows((np.asarray(probe.hidden_ND, dtype=float) - mean_D) / scale_D)

    def right(alike_MM: np.ndarray, number: int) -> float:
        return float((votes(alike_MM, sides_M, number, len(labels)).argmax(axis=1) == sides_M).mean())

    best = np.array([float(best_number(states_MD, right))])
    weights_KK, bias_K = np.eye(len(labels)), np.zeros(len(labels))
    return Nearest(tuple(labels), weights_KK, bias_K, mean_D, scale_D, states_MD, sides_M.astype(float), best)


def best_number(states_MD: np.ndarray, worth: Callable[[np.ndarray, int], float]) -> int:
    """The number of neighbours with the highest `worth(alike_MM, number)`, where no row is its own neighbour."""
    alike_MM: np.ndarray = states_MD @ states_MD.T
    np.fill_diagonal(alike_MM, -np.inf)
    able = [number for number in NEIGHBOURS if number < len(states_MD)] or [1]
    return able[int(np.argmax([worth(alike_MM, number) for number in able]))]
