"""Bits per byte: how many bits a model needs for each byte of text. Lower is better."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np


class BitsPerByte(evaluate.Metric):  # type: ignore[misc]
    """All bits over all bytes, which no tokenizer can flatter."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description="predictions: bits of each reply, end token included; references: its UTF-8 bytes",
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions: Sequence[float], references: Sequence[int]) -> dict[str, float]:
        return {"bits_per_byte": float(np.sum(predictions) / np.sum(references))}
