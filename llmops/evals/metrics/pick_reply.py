"""Pick the reply: the share of rows where the real reply scores highest among its options."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np


class PickReply(evaluate.Metric):  # type: ignore[misc]
    """The share of rows whose highest score stands at the place of the real reply; the first of equals counts."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description="predictions: the scores of each row's options; references: the place of the real one",
            features=datasets.Features(
                {"predictions": datasets.Sequence(datasets.Value("float64")), "references": datasets.Value("int32")}
            ),
        )

    def _compute(self, predictions: Sequence[Sequence[float]], references: Sequence[int]) -> dict[str, float]:
        picked = [int(np.argmax(scores)) if len(scores) else -1 for scores in predictions]
        return {"pick_reply": float(np.mean(np.asarray(picked) == np.asarray(references)))}
