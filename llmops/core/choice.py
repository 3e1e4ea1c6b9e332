"""`Choice`: which row to keep, out of a tournament; and `Forecast`: would more data help? Both were measured here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmops.core.method import Method
from llmops.core.recipe import Recipe
from llmops.core.report import Score
from llmops.core.value import Value, digest

Kind = Literal["majority", "word_list", "tfidf", "frozen", "nearest", "zero_shot", "few_shot", "tuned"]


class Contest(Value):
    """The terms of a tournament."""

    margin: float | None = Field(
        None, ge=0, description="how much worse is not worse, in the measure's own unit; None: one point of a share"
    )
    budget_s: float = Field(600.0, gt=0, description="seconds for everything; training gets what the cheap rows leave")
    answers: int = Field(10_000, ge=1, description="the cheapest is the cheapest to make and to ask so often")
    trial_share: float = Field(0.35, gt=0, lt=1, description="share of the training rows that chooses, not learned")
    deals: int = Field(3, ge=1, le=9, description="times that the training rows are dealt for rows fitted in a moment")
    train_rows: int | None = Field(None, ge=20, description="at most so many training rows take part")
    bases: tuple[str, ...] = Field((), description="base models; (): the recipe's, and those of the catalogue here")
    ranks: tuple[int, ...] = Field((4, 16, 64), description="of LoRA")
    shots: int = Field(4, ge=1, le=64, description="examples in a few-shot prompt")
    searches: int = Field(0, ge=0, le=256, description="more settings of LoRA that optuna proposes at the end")
    only: tuple[Kind, ...] = Field((), description="the kinds that take part; (): all that apply")


class Entrant(Value):
    """Who takes part: a kind of row, on a base where it needs one, trained by a method where it is tuned."""

    name: str
    kind: Kind
    base: str | None = None
    method: Method | None = None
    learning_rate: float | None = Field(None, description="None: as plan decides")


class Cost(Value):
    """What a row costs on this machine, measured: to make it, and to ask it."""

    training_s: float = Field(description="to fit or train it, reading the rows by the base included")
    thousand_s: float = Field(description="for a thousand answers, asked together")
    latency_s: float = Field(description="of one answer by itself, the median of a few")
    memory_bytes: int = Field(description="weights, lists and numbers held to answer; what comes and goes not counted")

    def total_s(self, answers: int) -> float:
        """To make it and to ask it so often."""
        return self.training_s + self.thousand_s * answers / 1000


class Behind(Value):
    """How far a row is behind the best, with simultaneous bounds (each one-sided at 95 %); 0 is the best itself."""

    estimate: float
    at_least: float
    at_most: float
    tied: bool = Field(description="not shown to be worse than any other row")


class Entry(Value):
    """A row of the tournament: how well on the trial rows, at what cost, and how well on the held-out rows at last."""

    entrant: Entrant
    plan: str
    report: str = Field(description="id of its report on the trial rows")
    more: tuple[str, ...] = Field((), description="of its reports on the rows of the other deals, fitted anew for each")
    trial: Score
    cost: Cost
    run: str | None = Field(None, description="the training behind a tuned row")
    steps: int | None = Field(None, description="of that training")
    rung: int | None = Field(None, description="of successive halving, from 0: where a tuned row ended")
    behind: Behind | None = None
    heldout: Score | None = None
    heldout_report: str | None = None
    pareto: bool = Field(False, description="no other row is at least as good and costs less in all")


class Verdict(Value):
    """The pick and its reason."""

    pick: str
    best: str
    margin: float
    because: str


class Choice(Value):
    """What came out of a tournament. It belongs to the machine that it was measured on."""

    id: str
    recipe: Recipe
    contest: Contest
    dataset: str
    trial: str = Field(description="the data set of the tournament: training rows, and the trial rows as held out")
    entries: tuple[Entry, ...]
    absent: dict[str, str] = Field(default_factory=dict, description="who did not take part: why")
    verdict: Verdict
    tried_on: str = Field("", description="which rows decided, and how far they stand for the held-out ones")
    judged: str = Field(description="what the held-out rows said of the pick, in a sentence")
    final: Score | None = Field(None, description="of the pick on the held-out rows, fitted on all training rows")
    final_report: str | None = Field(None, description="its report, which can be registered; None where it is tuned")
    then: str = Field(description="the command that goes on with the winner")
    seconds: float

    @property
    def missing(self) -> dict[str, tuple[str, ...]]:
        """Why: who did not take part for that reason."""
        whys: dict[str, tuple[str, ...]] = {}
        for name, why in self.absent.items():
            whys[why] = (*whys.get(why, ()), name)
        return whys

    def entry(self, name: str) -> Entry:
        """The row of that name."""
        return next(entry for entry in self.entries if entry.entrant.name == name)


def choice_id(recipe: Recipe, contest: Contest, dataset: str, trial: str) -> str:
    """The name of a tournament: by what was asked and on which rows, so that asking again goes on with it."""
    return f"ch-{digest([recipe.to_json(), contest.to_json(), dataset, trial])[:12]}"


class Point(Value):
    """The measured score of a row with so many training rows: the mean of some draws of them."""

    rows: int
    score: float
    draws: int


class Outlook(Value):
    """One kind of row: its learning curve, the law fitted to it, and what more rows would add.

    The law is score = ceiling - scale * (rows + shift) ** -power for a share, and the same upside down for an error.
    `gain` is above 0 where more rows help, whatever the measure.
    """

    row: str
    points: tuple[Point, ...]
    ceiling: float
    scale: float
    power: float
    shift: float
    gain: float
    low: float = Field(description="5 % bound of the gain")
    high: float = Field(description="95 % bound of the gain")

    @property
    def verdict(self) -> Literal["helps", "cannot tell", "hurts"]:
        """What the 90 % band says."""
        if self.low > 0:
            return "helps"
        return "hurts" if self.high < 0 else "cannot tell"


class Forecast(Value):
    """Would more data help? For each kind of row, judged on the same held-out rows."""

    recipe: Recipe
    dataset: str
    metric: str
    rows: int = Field(description="training rows there are")
    more: int = Field(description="training rows there might be besides")
    outlooks: tuple[Outlook, ...]
    because: str
