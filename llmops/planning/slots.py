"""`slots`: how many answers an engine holds room for at once."""

from __future__ import annotations

from llmops.planning.cost import BaseShape

# Each answer more in a batch costs less than the one before; past 32 nothing is won on a processor (LOG.md).
FEWEST, MOST = 4, 32
# Of the memory that is free: the room is taken at the start, whoever asks.
SHARE = 0.1
KEY_AND_VALUE_BYTES = 2 * 2


def room_bytes(shape: BaseShape, context_tokens: int) -> int:
    """Bytes of the keys and values of one answer, in 16 bits: 2 values of K numbers in each layer for a token."""
    return KEY_AND_VALUE_BYTES * shape.layers * shape.narrow * context_tokens


def slots(shape: BaseShape, context_tokens: int, free_bytes: int | None = None) -> int:
    """As many as a tenth of the free memory holds, from 4 to 32."""
    if free_bytes is None:
        from llmops.lm.memory import free_bytes as measured

        free_bytes = measured()
    return max(FEWEST, min(MOST, int(SHARE * free_bytes / room_bytes(shape, context_tokens))))
