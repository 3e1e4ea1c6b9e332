"""`HealthReport`: is it still the model we promoted? A function of two windows of exchanges."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from pydantic import Field

from llmops.core.value import Fact, Value


class Window(Value):
    """What happened between two moments. Counts and sums only, so that windows add up."""

    since: datetime | None
    until: datetime
    requests: int
    errors: int
    seconds: tuple[float, ...] = Field((), description="total seconds of each answered request, sorted")
    prompt_tokens: int
    answer_tokens: int
    thumbs_up: int
    thumbs_down: int
    edits: int


class HealthReport(Fact):
    """The window since the last promotion against the one before, in sentences a person can act on."""

    prefix: ClassVar[str] = "hr"

    name: str
    version: str | None
    now: Window
    before: Window
    findings: tuple[str, ...]
