"""`Policy`: what a version must show before it answers as production. One readable file of the workspace."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmops.core.value import Value


class Policy(Value):
    """Each gate, and how strict it is. A person may still insist, with `--because`, which is recorded."""

    certificate: bool = Field(True, description="tuned weights need a parity certificate in which no stage is broken")
    slices: bool = Field(True, description="no slice may be shown to be worse (Holm over all of them)")
    guardrails: dict[str, float] = Field(
        default_factory=dict,
        description="slice: the most that it may be worse by, which must be shown (domain=tweets: 0.02)",
    )
    leaks: bool = Field(True, description="a score may not owe anything to held-out rows that were trained on")
    exam: Literal["off", "not memorised", "understood"] = Field(
        "not memorised", description="what the exam, where it was sat, must say; understood: it must have been sat"
    )
