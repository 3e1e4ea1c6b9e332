"""`Capacity`: how many people an endpoint serves here, measured, with the law that its throughput follows."""

from __future__ import annotations

import math

from pydantic import Field

from llmops.core.value import Value


class LoadPoint(Value):
    """What was measured with so many readers asking without a pause."""

    readers: int
    answers: int
    failed: int
    answers_s: float = Field(description="answers a second, all readers together")
    tokens_s: float
    first_token_p50_s: float
    first_token_p99_s: float
    total_p50_s: float


class ScalabilityLaw(Value):
    """Throughput of N readers: first * N / (1 + contention (N - 1) + crosstalk N (N - 1)) (Gunther 2007).

    `first` is what one reader gets, answers a second; `contention` the share that waits in line, `crosstalk` what each
    costs every other. `error` is the mean relative error at the points that it was fitted to.
    """

    first: float
    contention: float
    crosstalk: float
    error: float

    def answers_s(self, readers: float) -> float:
        """Answers a second with so many readers."""
        wait = 1 + self.contention * (readers - 1) + self.crosstalk * readers * (readers - 1)
        return self.first * readers / wait

    @property
    def best_readers(self) -> int | None:
        """With how many readers the throughput is highest; None where more never hurts."""
        if self.crosstalk <= 0 or self.contention >= 1:
            return None
        return max(1, round(math.sqrt((1 - self.contention) / self.crosstalk)))


class Need(Value):
    """What a number of people needs. Each asks once in `think_s` seconds on average, and waits for the answer."""

    users: int = Field(ge=1)
    think_s: float = Field(30.0, gt=0)
    first_token_s: float = Field(1.0, gt=0, description="99 of 100 first tokens come within this")


class Capacity(Value):
    """A version under load on this machine. `replicas` is None where not even one reader is served as was asked."""

    version: str
    engine: str
    machine: str
    points: tuple[LoadPoint, ...]
    law: ScalabilityLaw | None = Field(None, description="None for fewer than three points")
    need: Need
    replica_answers_s: float = Field(description="answers a second of one replica that keeps to the need; 0 for none")
    replicas: int | None
