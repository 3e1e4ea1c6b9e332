"""Preference: the share of rows on which a model sides with people. A tie counts half."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np

from llmops.evals.preferences import agreed


class Preference(evaluate.Metric):  # type: ignore[misc]
    """The share of pairs whose chosen reply the model finds likelier than the rejected one."""

    name_of_score = "preference"

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description="predictions: margins, above 0 where model and people agree; references: not looked at",
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}
            ),
        )

    def _compute(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        return {self.name_of_score: float(np.mean([agreed(margin) for margin in predictions]))}


class RewardAccuracy(Preference):
    """The same by implicit reward: by how much likelier a reply has become than it was to the base."""

    name_of_score = "reward_accuracy"
