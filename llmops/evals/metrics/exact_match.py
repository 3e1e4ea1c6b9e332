"""Exact match: the share of answers that are the expected text, case and white space aside."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate

from llmops.evals.suite import fold


class ExactMatch(evaluate.Metric):  # type: ignore[misc]
    """The share of answers that equal the expected text, case and white space folded."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description="predictions: generated texts; references: expected texts",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        pairs = list(zip(predictions, references, strict=True))
        return {"exact_match": sum(fold(answer) == fold(expected) for answer, expected in pairs) / len(pairs)}
