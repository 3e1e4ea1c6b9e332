"""What training costs in time, from the shape of the base. `memory.py` has the bytes.

Formulas count a multiplication and an addition as two operations. With frozen weights a token costs one product
forward and one backward (the gradient of its input): 4 operations a weight, against 6 where weights are trained.
"""

from __future__ import annotations

from dataclasses import dataclass

# Of the measured rate of one large product, what a whole training step reached here (recipes/LOG.md).
EFFICIENCY = 0.54


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
    head_size: int = 0
    key_heads: int = 0
    sandwiched: bool = False

    @property
    def wide(self) -> int:
        """A: the width of all heads."""
        return self.heads * (self.head_size or self.hidden // self.heads)

    @property
    def narrow(self) -> int:
        """K: the width of all key heads."""
        return (self.key_heads or self.heads) * (self.head_size or self.hidden // self.heads)

    @property
    def norms(self) -> int:
        """Widths of the norms of a layer: Llama has two, Gemma 3 four and one each for queries and keys."""
        return 4 * self.hidden + self.wide + self.narrow if self.sandwiched else 2 * self.hidden


def seconds_of(shape: BaseShape, tokens: int, flops: float) -> float:
    """Seconds to train on `tokens` once."""
    return 4 * shape.block_parameters * tokens / (flops * EFFICIENCY)
