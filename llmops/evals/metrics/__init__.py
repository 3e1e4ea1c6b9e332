"""The measures, each an `evaluate.Metric` of its own file. Nothing here needs a hub, a cache or a network."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any
from uuid import uuid4


def compute(metric: str, predictions: Sequence[Any], references: Sequence[Any], **knobs: Any) -> float:
    """The value of `metric` over all rows, by its own `knobs` where it has some. Safe to call from several threads.

    Each call makes its own instance, in memory, because a shared one loses rows under threads. The library makes a
    folder for its cache even so, in the home directory unless told otherwise: it gets a temporary one.
    """
    from llmops.evals.metrics.table import METRICS

    with tempfile.TemporaryDirectory(prefix="llmops-metric-") as cache:
        module = METRICS[metric](keep_in_memory=True, cache_dir=cache, experiment_id=uuid4().hex, seed=0)
        return float(module.compute(predictions=list(predictions), references=list(references), **knobs)[metric])
