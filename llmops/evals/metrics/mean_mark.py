"""The mean of the marks that a scorer gave: one metric for each scorer whose score is a mean."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np


class MeanMark(evaluate.Metric):  # type: ignore[misc]
    """The mean mark. Answers that could not be marked are no part of it."""

    name_of_score = "mark"

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description="predictions: the marks; references: not looked at",
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}
            ),
        )

    def _compute(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        return {self.name_of_score: float(np.mean(np.asarray(predictions)))}


def mean_of(name: str) -> type[MeanMark]:
    """The metric of that name."""
    return type(f"Mean_{name}", (MeanMark,), {"name_of_score": name, "__doc__": f"The mean of the marks by {name}."})
