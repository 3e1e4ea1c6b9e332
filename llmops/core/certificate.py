"""`Certificate`: is what is served what was trained? Stage by stage, from the adapter to the endpoint."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from llmops.core.export import EngineName, Weights
from llmops.core.value import Fact, Value

StageName = Literal["adapter", "merged", "converted", "served"]


class Check(Value):
    """One thing that must have survived. `value` may be `limit` at most (at least, where `at_least`)."""

    name: str
    value: float
    limit: float
    at_least: bool = False
    why: str = Field("", description="where the limit comes from, and the first thing that broke it")

    @property
    def passed(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit


class Stage(Value):
    """One form of the weights: the sha256 of its artefact, and its checks against the adapter on its base."""

    name: StageName
    artefact: str = Field(description="what was asked, as a person would name it")
    sha256: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


class Certificate(Fact):
    """A version along its way from the adapter to the endpoint, asked the same held-out rows at every stage."""

    prefix: ClassVar[str] = "ct"

    version: str
    rows: int
    positions: int = Field(description="places in replies at which whole distributions were compared")
    probes: int = Field(description="of them, asked of the served stage, one token each")
    stages: tuple[Stage, ...]
    weights: Weights = Field("q8_0", description="what is served, and what the GGUF file mostly holds")
    engine: EngineName = Field("llama.cpp", description="what answered at the served stage")

    @property
    def broken(self) -> Stage | None:
        """The first stage that is not what was trained."""
        return next((stage for stage in self.stages if not stage.passed), None)

    @property
    def because(self) -> str:
        """The verdict in a sentence."""
        stage = self.broken
        if stage is None:
            return f"{self.version} is served as it was trained: {len(self.stages)} stages, {self.rows} rows."
        check = next(check for check in stage.checks if not check.passed)
        sign = "at least" if check.at_least else "at most"
        figure = f"{check.name} is {check.value:.4g}, and may be {sign} {check.limit:.4g}"
        return f"{self.version} breaks where it is {stage.name}: {figure}. {check.why}".strip()
