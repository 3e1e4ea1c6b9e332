"""`Outcome`: what a whole run of a recipe came to. One object, printed by `llmops run --json` and kept with the run."""

from __future__ import annotations

from pydantic import Field

from llmops.core.comparison import Pick
from llmops.core.report import Score
from llmops.core.value import Value


class ComparisonLine(Value):
    """The tuned model against one cheap row, in one line."""

    baseline: str
    metric: str
    delta: float
    low: float
    high: float
    p: float
    verdict: str


class EndpointCheck(Value):
    """The same held-out rows asked offline and through the endpoint."""

    version: str
    offline: float
    endpoint: float
    differ: int
    n: int


class SideBySide(Value):
    """One prompt answered by the base and by the tuned model."""

    prompt: str
    base: str
    tuned: str


class SeedRun(Value):
    """One of several seeds: its run, its last held-out loss, and its score by the measure that decides."""

    seed: int
    run: str
    heldout_loss_nats: float | None
    score: Score


class Seeds(Value):
    """The same plan by several seeds. `deviation` is the standard deviation between runs: what chance alone does.

    `low` and `high` hold the mean over all seeds that might have been drawn (95 %, Student's t), on these rows.
    """

    plan: str
    runs: tuple[SeedRun, ...]
    mean: float
    deviation: float
    low: float | None = Field(None, description="None: one seed has no spread")
    high: float | None = None


class Outcome(Value):
    """The result of `run`: ids to look things up by, the honest table, the pick, and where the time went."""

    name: str
    version: str = Field(description="the version that was picked, `name:number`")
    tuned_version: str
    promoted: str = Field(description="what became of the promotion, in a sentence")
    run: str
    plan: str
    dataset: str
    seconds: dict[str, float] = Field(description="stage: seconds")
    scores: dict[str, Score] = Field(description="row name: its score by the measure that decides")
    more_scores: dict[str, dict[str, Score]] = Field(default_factory=dict, description="row name: measure: score")
    comparisons: tuple[ComparisonLine, ...]
    pick: Pick
    endpoint: EndpointCheck | None = None
    answers: tuple[SideBySide, ...] = ()
    reports: dict[str, str] = Field(description="row name: id of its EvalReport")
