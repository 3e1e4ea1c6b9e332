"""`Endpoint`, `Exchange` and `Feedback`: what is being served, what was asked and answered, what people said of it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from llmops.core.dataset import Message
from llmops.core.value import Value


class Endpoint(Value):
    """An event: a server answered here, for these versions (never for a path)."""

    url: str
    versions: tuple[str, ...]
    engine: str
    pid: int
    at: datetime


READERS = 8  # that an endpoint expects to ask at once, where nobody says


class Sampling(Value):
    """How an answer is drawn. Every number is bounded, because requests fill it in."""

    max_tokens: int = Field(128, ge=1, le=4096)
    temperature: float = Field(0.0, ge=0, le=2, description="0 is greedy")
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int = Field(0, ge=0, le=2**31 - 1)
    stop: tuple[str, ...] = Field((), max_length=4)


class Shadowed(Value):
    """What an answer in the shadow repeats."""

    of: str = Field(description="id of the exchange whose question it was asked again")
    same: bool = Field(description="whether both answers are the same, letter by letter")


class Exchange(Value):
    """An event: one question and its answer. Text is kept only where it was asked for, and redacted first."""

    id: str
    version: str
    at: datetime
    prompt_sha256: str = Field(description="of the rendered prompt's token ids")
    sampling: Sampling
    prompt_tokens: int
    answer_tokens: int
    first_token_s: float | None
    total_s: float
    finish: Literal["stop", "length", "cancelled", "error"]
    messages: tuple[Message, ...] = Field((), description="empty unless text is kept")
    answer: str | None = None
    conversation: str | None = Field(
        None,
        exclude_if=lambda sign: sign is None,
        description="where a canary drew who answers: an opaque sign of the conversation, for each counts once",
    )
    shadow: Shadowed | None = Field(
        None, exclude_if=lambda shadow: shadow is None, description="nobody was given this answer"
    )


class Feedback(Value):
    """An event: what a person said of an answer: a thumb, or the answer they would have wanted."""

    exchange: str
    thumb: Literal["up", "down"] | None = None
    edit: str | None = None
    author: str
    at: datetime
