"""`Canary`: a part of the traffic goes to a version that is not promoted yet, and what people say of it decides.

In the shadow nobody sees what it says: production answers, and the challenger is asked the same again.

Pure: how it splits, and what its events add up to. `registry.canary` starts, judges and ends it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import Field, model_validator

from llmops.core.recipe import Name
from llmops.core.value import Value
from llmops.core.version import Promotion, champion

PARTS = 2**32  # a conversation's hash is one of these


How = Literal["split", "shadow"]
# The most of the conversations: people who are answered by what is on trial are the fewer; a shadow harms nobody.
MOST: dict[How, float] = {"split": 0.5, "shadow": 1.0}


class Canary(Value):
    """Two versions of one name, how the conversations are split between them, and how sure a verdict must be."""

    name: Name
    control: int = Field(ge=1, description="the version that answers as production")
    challenger: int = Field(ge=1, description="the version that is tried")
    how: How = Field("split", description="split: the challenger answers its share; shadow: it answers them again")
    share: float = Field(0.1, gt=0, le=1, description="of the conversations; of a split half of them at most")
    alpha: float = Field(0.05, gt=0, le=0.2, description="chance that a challenger no worse is ever rolled back")
    because: str = ""

    @model_validator(mode="after")
    def _tries_another(self) -> Canary:
        if self.control == self.challenger:
            raise ValueError("a canary needs two versions")
        if self.share > MOST[self.how]:
            raise ValueError(f"a {self.how} takes {MOST[self.how]:g} of the conversations at most")
        return self

    @property
    def refs(self) -> tuple[str, str]:
        """(control, challenger) as people call them."""
        return f"{self.name}:{self.control}", f"{self.name}:{self.challenger}"


class CanaryStarted(Value):
    """An event: from now on the challenger answers its share."""

    canary: Canary
    author: str
    at: datetime


class CanaryEnded(Value):
    """An event: production answers everything again."""

    canary: Canary
    outcome: Literal["rolled back", "stopped"]
    because: str
    author: str
    at: datetime


class Arm(Value):
    """What people said of one arm."""

    version: str
    up: int = Field(ge=0)
    n: int = Field(ge=0)

    def told(self) -> str:
        """`tone:3 41 of 60 up`."""
        return f"{self.version} {self.up} of {self.n} up"


class Shadows(Value):
    """The answers that a challenger gave in the shadow, beside those that people were given. Medians of seconds."""

    n: int = Field(ge=0, description="asked again")
    failed: int = Field(ge=0, description="no answer came")
    same: int = Field(ge=0, description="letter by letter what production had said")
    control_s: float | None = Field(description="production's, of the same questions, its time in the queue included")
    challenger_s: float | None


class CanaryReading(Value):
    """What a canary's thumbs say by now. `roll back` and `promote` hold at any number of looks, so they stay."""

    canary: Canary
    since: datetime
    control: Arm
    challenger: Arm
    verdict: Literal["roll back", "promote", "cannot tell"]
    because: str
    shadows: Shadows | None = Field(None, exclude_if=lambda shadows: shadows is None, description="of a shadow")
    ended: CanaryEnded | None = None


def version_for(canary: Canary, conversation: str) -> str:
    """Whose conversation this is: `tone:2` or `tone:3`. The same one's every time, on every machine.

    The challenger's number is hashed too, so that the next canary falls to other people.
    """
    seed = f"{canary.name}:{canary.challenger}\n{conversation}".encode("utf-8", "surrogatepass")
    part = int.from_bytes(hashlib.sha256(seed).digest()[:4], "big")
    control, challenger = canary.refs
    return challenger if part < canary.share * PARTS else control


def running_canary(
    started: Sequence[CanaryStarted], ended: Sequence[CanaryEnded], promotions: Sequence[Promotion], name: str
) -> CanaryStarted | None:
    """The canary of `name` that runs now, or None: the last one started, unless it ended or production moved since."""
    ours = [event for event in started if event.canary.name == name]
    if not ours:
        return None
    last = ours[-1]
    over = sum(event.canary.name == name for event in ended) == len(ours)  # before another starts, the last one ends
    now = champion(tuple(promotions), name)
    if over or now is None or now.version != last.canary.control or now.at > last.at:
        return None
    return last
