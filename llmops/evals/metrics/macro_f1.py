"""Macro-F1: every label counts alike, however rare it is."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate

from llmops.evals.intervals import confusion, macro_f1


class MacroF1(evaluate.Metric):  # type: ignore[misc]
    """The unweighted mean of F1 over the labels that occur; a label that is never met scores 0."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description="predictions and references: numbers of labels; a prediction of -1 is no answer",
            features=datasets.Features({"predictions": datasets.Value("int32"), "references": datasets.Value("int32")}),
        )

    def _compute(self, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        return {"macro_f1": float(macro_f1(confusion(references, predictions)[None])[0])}
