"""The arena of a tournament: one data set of trials, a plan a base, and a way to play every kind of row on it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from llmops.core.choice import Contest, Cost, Entrant, Entry
from llmops.core.dataset import DatasetManifest, Row
from llmops.core.plan import Plan, Wishes
from llmops.core.recipe import Recipe
from llmops.core.report import EvalReport, Subject, SubjectKind, Suite
from llmops.core.tasks import Classify, Rate
from llmops.pipeline.make import decided
from llmops.pipeline.subjects import word_list
from llmops.pipeline.views import Seen, View, asker, held_bytes, one_by_one
from llmops.store.workspace import Workspace

if TYPE_CHECKING:
    from llmops.experiments.parts import Parts
    from llmops.lm.ports import Probe

CALIBRATED_ON = 200  # rows: what a few-shot prompt's scale and biases are fitted on
SUBJECTS: dict[str, SubjectKind] = {"zero_shot": "base"}  # where a report calls it otherwise


@dataclass(frozen=True)
class Fitted:
    """A row that was made: what it says to rows, what making it took, and what it holds."""

    answers: Callable[[Sequence[Row]], tuple[Any, float]]  # probabilities NK or numbers N, and the base's seconds
    training_s: float
    parts: Parts | None  # None: the base asked as it is
    shown: tuple[Row, ...] = ()

    @property
    def own_bytes(self) -> int:
        """The bytes of its own numbers and words."""
        return bytes_of(vars(self.parts)) if self.parts else 0


@dataclass
class Arena:
    """Rows, plans and views of one tournament."""

    recipe: Recipe
    contest: Contest
    manifest: DatasetManifest
    trial: DatasetManifest
    at: Workspace
    wishes: Wishes
    bases: tuple[str, ...]
    deals: tuple[DatasetManifest, ...] = ()  # besides `trial`
    views: dict[str, View] = field(default_factory=dict)
    known: dict[str, dict[str, Seen]] = field(default_factory=dict)  # by base: what was read, for whichever plan
    fitted: dict[str, Fitted] = field(default_factory=dict)

    @cached_property
    def learn_rows(self) -> list[Row]:
        """The rows to learn from; rows to replay have no label and are for training only."""
        return [row for row in self.at.rows(self.trial.id, "train") if row.label is not None]

    @cached_property
    def trial_rows(self) -> list[Row]:
        """The rows that choose."""
        return self.at.rows(self.trial.id, "heldout")

    @cached_property
    def heldout_rows(self) -> list[Row]:
        """The rows that judge, once."""
        return self.at.rows(self.manifest.id, "heldout")

    def suite(self, heldout: bool) -> Suite:
        """The suite of the trial rows, or of the recipe's own held-out rows."""
        from llmops.evals.suite import make_suite, scale_of

        manifest, rows = (self.manifest, self.heldout_rows) if heldout else (self.trial, self.trial_rows)
        scale = scale_of(self.at.rows(manifest.id, "train")) if isinstance(self.recipe.task, Rate) else None
        return make_suite(manifest, self.recipe.task, rows, self.recipe.evaluation.slices, scale)

    def view(self, base: str | None) -> View:
        """A base's view, with the plan that names it; rows without a base go under the recipe's."""
        base = base or self.recipe.base
        if base not in self.views:
            planned = decided(self.recipe.replace(base=base), self.trial, self.at, self.wishes)
            self.views[base] = View(planned, self.at, self.known.setdefault(base, {}))
        return self.views[base]

    def play(self, entrant: Entrant) -> Entry:
        """Make a row that needs no training of a model, and measure it on the trial rows."""
        from llmops.experiments.entrants import KINDS

        made = self.fitted[entrant.name] = self.fit(entrant)
        view, n = self.view(entrant.base), len(self.trial_rows)
        report, seconds = self.grade(entrant, made, heldout=False)
        latency_s = 0.0
        held = made.own_bytes
        if entrant.base is not None:
            latency_s = view.latency_s([shown_to(row, made.shown) for row in self.trial_rows[:8]])
            held += held_bytes(view.model)
        else:
            latency_s = one_by_one(lambda row: made.answers([row]), self.trial_rows)
        cost = Cost(training_s=made.training_s, thousand_s=1000 * seconds / n, latency_s=latency_s, memory_bytes=held)
        more = tuple(self.again(entrant, deal) for deal in self.deals if KINDS[entrant.kind].quick)
        return Entry(entrant=entrant, plan=view.plan.id, report=report.id, more=more, trial=report.main, cost=cost)

    def again(self, entrant: Entrant, deal: DatasetManifest) -> str:
        """The report of a row that was fitted to and tried on another deal of the training rows."""
        other = replace(self, trial=deal, deals=(), fitted={})
        return other.grade(entrant, other.fit(entrant), heldout=False)[0].id

    def judge(self, entry: Entry) -> Entry:
        """The entry with what the held-out rows say of it."""
        if entry.run is not None:
            report = self.grade_tuned(self.at.get(Plan, entry.plan), entry.run, heldout=True)[0]
        else:
            name = entry.entrant.name
            made = self.fitted.get(name) or self.fitted.setdefault(name, self.fit(entry.entrant))
            report, _ = self.grade(entry.entrant, made, heldout=True)
        return entry.replace(heldout=report.main, heldout_report=report.id)

    def on_all_rows(self, entrant: Entrant) -> tuple[EvalReport, Parts | None]:
        """(the report on the held-out rows of a row fitted on all training rows, its parts): what `register` keeps."""
        whole = replace(self, trial=self.manifest, views={}, fitted={})
        made = whole.fit(entrant)
        return whole.grade(entrant, made, heldout=True)[0], made.parts

    def fit(self, entrant: Entrant) -> Fitted:
        """Make a row from the rows to learn from."""
        if isinstance(self.recipe.task, Classify):
            return self._fit_labels(entrant)
        return self._fit_numbers(entrant)

    def _fit_labels(self, entrant: Entrant) -> Fitted:
        from llmops.experiments import baselines
        from llmops.experiments.entrants import examples
        from llmops.experiments.nearest import fit_nearest

        assert isinstance(self.recipe.task, Classify)
        rows, labels = self.learn_rows, self.recipe.task.labels
        shown = tuple(examples(rows, self.contest.shots)) if entrant.kind == "few_shot" else ()
        if shown:
            unshown = [row for row in rows if row.id not in {one.id for one in shown}][:CALIBRATED_ON]
            rows = unshown if {row.label for row in unshown} == set(labels) else rows
        probe, read_s = self._seen(entrant, rows, shown)
        fits: dict[str, Callable[[], Any]] = {
            "majority": lambda: baselines.fit_majority(rows, labels),
            "word_list": lambda: baselines.fit_word_list(rows, labels, word_list(self.recipe, self.at) or {}),
            "tfidf": lambda: baselines.fit_tfidf(rows, labels),
            "frozen": lambda: baselines.fit_frozen(rows, labels, cast("Probe", probe)),
            "nearest": lambda: fit_nearest(rows, labels, cast("Probe", probe)),
            "zero_shot": lambda: baselines.fit_base(rows, labels, cast("Probe", probe)),
            "few_shot": lambda: baselines.fit_few_shot(rows, labels, cast("Probe", probe), shown),
        }
        began = time.perf_counter()
        made = fits[entrant.kind]()
        fit_s = time.perf_counter() - began

        def answers(asked: Sequence[Row]) -> tuple[Any, float]:
            seen, seconds = self._seen(entrant, asked, shown)
            return made.probabilities([row.text for row in asked], seen), seconds

        return Fitted(answers, read_s + fit_s, made, shown)

    def _seen(self, entrant: Entrant, rows: Sequence[Row], shown: Sequence[Row]) -> tuple[Probe | None, float]:
        if entrant.base is None:
            return None, 0.0
        return self.view(entrant.base).probe([shown_to(row, shown) for row in rows])

    def _fit_numbers(self, entrant: Entrant) -> Fitted:
        from llmops.experiments.entrants import examples
        from llmops.experiments.ratings import fit_rater

        rows = self.learn_rows
        shown = tuple(examples(rows, self.contest.shots)) if entrant.kind == "few_shot" else ()
        if entrant.kind in ("zero_shot", "few_shot"):
            return Fitted(lambda asked: (None, 0.0), 0.0, None, shown)
        probe, read_s = self._seen(entrant, rows, ())
        began = time.perf_counter()
        made = fit_rater(subject_kind(entrant, self.recipe.task), rows, probe)
        fit_s = time.perf_counter() - began

        def answers(asked: Sequence[Row]) -> tuple[Any, float]:
            seen, seconds = self._seen(entrant, asked, ())
            return made.numbers([row.text for row in asked], seen), seconds

        return Fitted(answers, read_s + fit_s, made)

    def grade(self, entrant: Entrant, made: Fitted, heldout: bool) -> tuple[EvalReport, float]:
        """(the report of a row that was fitted, the seconds that all its answers took), stored."""
        from llmops.evals.evaluate import evaluate, grade_labels
        from llmops.evals.ratings import grade_numbers

        rows, suite, task = self.heldout_rows if heldout else self.trial_rows, self.suite(heldout), self.recipe.task
        view = self.view(entrant.base)
        subject = Subject(kind=subject_kind(entrant, task), ref=view.plan.id)
        began = time.perf_counter()
        said, read_s = made.answers(rows)
        seconds = time.perf_counter() - began
        if read_s:  # by the base: as it was when it read them, now or before
            seconds = read_s
        if said is None:
            began = time.perf_counter()
            asked = [shown_to(row, made.shown) for row in rows]
            report = evaluate(view.model, subject, suite, asked, task, self.at.world.track)
            seconds = time.perf_counter() - began
        elif isinstance(task, Classify):
            report = grade_labels(subject, suite, rows, task.labels, said)
        else:
            report = grade_numbers(subject, suite, rows, said)
        self.at.put(report)
        return report, seconds

    def grade_tuned(self, plan: Plan, run: str, heldout: bool) -> tuple[EvalReport, Cost]:
        """(the report of a finished training, what it cost), stored."""
        from llmops.evals.evaluate import evaluate
        from llmops.planning.bases import open_model

        rows = self.heldout_rows if heldout else self.trial_rows
        model = open_model(plan, self.at.run_folder(run) / "adapter", self.at.world)
        began = time.perf_counter()
        subject = Subject(kind="tuned", ref=run)
        report = evaluate(model, subject, self.suite(heldout), rows, self.recipe.task, self.at.world.track)
        thousand_s = 1000 * (time.perf_counter() - began) / len(rows)
        self.at.put(report)
        cost = Cost(
            training_s=self.at.run(run).seconds,
            thousand_s=thousand_s,
            latency_s=0.0 if heldout else one_by_one(asker(model, plan), rows),
            memory_bytes=held_bytes(model),
        )
        return report, cost


def shown_to(row: Row, shown: Sequence[Row]) -> Row:
    """The row behind examples, where there are any."""
    from llmops.experiments.entrants import with_examples

    return with_examples(row, shown) if shown else row


def subject_kind(entrant: Entrant, task: object) -> SubjectKind:
    """What a report calls a kind of row."""
    if entrant.kind == "majority" and isinstance(task, Rate):
        return "mean"
    return SUBJECTS.get(entrant.kind, entrant.kind)  # type: ignore[arg-type]


def bytes_of(parts: Mapping[str, Any]) -> int:
    """The bytes of a row's own numbers and words."""
    total = 0
    for part in parts.values():
        if isinstance(part, np.ndarray):
            total += part.nbytes
        elif isinstance(part, (list, tuple)):
            total += sum(sys.getsizeof(entry) for entry in part)
    return total
