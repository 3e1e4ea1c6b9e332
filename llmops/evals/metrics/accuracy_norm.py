"""Accuracy by length: the share of questions whose right option is the likeliest for its length."""

from __future__ import annotations

from collections.abc import Sequence

from llmops.evals.metrics.accuracy import Accuracy


class AccuracyNorm(Accuracy):
    """The share of predictions that equal their reference, where each was picked by its log-probability a character."""

    def _compute(self, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        return {"accuracy_norm": super()._compute(predictions, references)["accuracy"]}
