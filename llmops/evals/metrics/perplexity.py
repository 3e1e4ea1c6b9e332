"""Perplexity: among how many tokens, all equally likely, the model would have been as unsure. Lower is better."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np


class Perplexity(evaluate.Metric):  # type: ignore[misc]
    """exp of all nats over all tokens. It depends on the tokenizer: compare it within one family only."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description="predictions: nats of each text; references: its tokens",
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions: Sequence[float], references: Sequence[int]) -> dict[str, float]:
        return {"perplexity": float(np.exp(np.sum(predictions) / np.sum(references)))}
