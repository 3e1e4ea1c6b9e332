"""What training costs, from the shape of the base: operations, seconds and bytes.

Formulas count a multiplication and an addition as two operations. With frozen weights a token costs one product
forward and one backward (the gradient of its input): 4 operations a weight, against 6 where weights are trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmops.core.plan import Knobs

# Of the measured rate of one large product, what a whole training step reached here (recipes/LOG.md).
EFFICIENCY = 0.62
# Bytes kept for the backward pass a token and layer, in units of the hidden size and of the inner size.
HIDDEN_COPIES = 14
INNER_COPIES = 6
PROCESS_BYTES = 900_000_000


@dataclass(frozen=True)
class BaseShape:
    """The sizes of a decoder that decide its cost."""

    layers: int
    hidden: int
    inner: int
    heads: int
    vocabulary: int
    positions: int
    block_parameters: int
    parameters: int


def seconds_of(shape: BaseShape, tokens: int, flops: float) -> float:
    """Seconds to train on `tokens` once."""
    return 4 * shape.block_parameters * tokens / (flops * EFFICIENCY)


def memory_bytes(shape: BaseShape, knobs: Knobs, longest_rows: Sequence[int]) -> int:
    """Peak bytes of the process in the largest pack of the longest batch: weights, activations, scores, logits."""
    width = 2 if knobs.precision == "bfloat16" else 4
    tokens = max(*longest_rows, min(sum(longest_rows), knobs.pack_tokens))
    weights = shape.parameters * width
    activations = tokens * shape.layers * (HIDDEN_COPIES * shape.hidden + INNER_COPIES * shape.inner) * width
    scores = 3 * shape.layers * shape.heads * tokens**2 * width if knobs.attention == "eager" else 0
    logits = 3 * tokens * shape.vocabulary * 4 // 3
    return PROCESS_BYTES + weights + activations + scores + logits
