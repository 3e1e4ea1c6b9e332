"""What a model makes of rows: a mark for each, and for texts a close reading of every token. N rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmops.core.context import Track
from llmops.core.dataset import Row
from llmops.core.tasks import Classify, Task
from llmops.lm.model import LocalModel
from llmops.lm.readings import Reading, read_closely
from llmops.lm.render import Example, Renderer

MOST_TOKENS = 512  # of a running text; the rest of a longer one is not read


@dataclass(frozen=True)
class Marks:
    """Marks of N rows (higher is better) with their weights, and the loss in nats beside them.

    Labels: 1 where the right one is likeliest, each row of weight 1; `losses_N` is -log p(label) among the labels.
    Texts: minus the bits per byte, weighed by bytes; `readings` holds every token.
    """

    measure: str
    marks_N: np.ndarray
    weights_N: np.ndarray
    losses_N: np.ndarray
    readings: tuple[Reading, ...] = ()

    def at(self, places: Sequence[int]) -> Marks:
        """Those of some rows."""
        chosen = list(places)
        readings = tuple(self.readings[place] for place in chosen) if self.readings else ()
        return Marks(self.measure, self.marks_N[chosen], self.weights_N[chosen], self.losses_N[chosen], readings)


def mark(model: LocalModel, rows: Sequence[Row], task: Task, track: Track) -> Marks:
    """The marks that `model` earns on `rows`."""
    if isinstance(task, Classify):
        return _labels(model, rows, task, track)
    return _texts(model, rows, track)


def _labels(model: LocalModel, rows: Sequence[Row], task: Classify, track: Track) -> Marks:
    logprobs_NK = model.probe([row.prompt for row in rows], task.labels, track).logprobs_NK.astype(np.float64)
    shares_NK = logprobs_NK - np.logaddexp.reduce(logprobs_NK, axis=1, keepdims=True)
    truth_N = np.array([task.labels.index(str(row.label)) for row in rows])
    return Marks(
        "accuracy",
        (shares_NK.argmax(axis=1) == truth_N).astype(np.float64),
        np.ones(len(rows)),
        -shares_NK[np.arange(len(rows)), truth_N],
    )


def _texts(model: LocalModel, rows: Sequence[Row], track: Track) -> Marks:
    readings = read_closely(model, [example_of(model.renderer, row) for row in rows], track)
    spans = [len(model.renderer.decode(reading.ids).encode()) for reading in readings]
    bytes_N = np.maximum(1, np.array(spans, dtype=np.float64))
    nats_N = np.array([reading.nats for reading in readings])
    return Marks("bits_per_byte", -nats_N / math.log(2) / bytes_N, bytes_N, nats_N, tuple(readings))


def example_of(renderer: Renderer, row: Row) -> Example:
    """A row as it is read here: a conversation whole, a running text up to `MOST_TOKENS`."""
    whole = renderer.row(row)
    return whole if row.messages else Example(whole.ids[:MOST_TOKENS], whole.trained[:MOST_TOKENS], whole.start)
