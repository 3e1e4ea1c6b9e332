"""Absolute error: how far, on average, the numbers said lie from the true ones. Lower is better."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np


class AbsoluteError(evaluate.Metric):  # type: ignore[misc]
    """The mean distance between prediction and reference, in the unit of the rating."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description="predictions and references: numbers on one scale",
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}
            ),
        )

    def _compute(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        return {"absolute_error": float(np.mean(np.abs(np.asarray(predictions) - np.asarray(references))))}
