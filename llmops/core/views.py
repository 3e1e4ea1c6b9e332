"""What `inspect` shows: tokens as the model sees them."""

from __future__ import annotations

from llmops.core.value import Value


class TokenView(Value):
    """One token: whether training learns it and, in a reply, how likely it was and what else might have come."""

    text: str
    id: int
    trained: bool = False
    probability: float | None = None
    alternatives: tuple[tuple[str, float], ...] = ()
