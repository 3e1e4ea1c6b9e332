"""`forecast`: would more data help? Learning curves of the rows that cost little to make, and the law through them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from llmops.core.choice import Forecast, Outlook
from llmops.core.dataset import DatasetManifest, Row
from llmops.core.errors import RequestError
from llmops.core.plan import Wishes
from llmops.core.recipe import Recipe
from llmops.core.report import LOWER_IS_BETTER
from llmops.core.tasks import Classify, Rate, measures_of
from llmops.pipeline.make import decided, prepare
from llmops.pipeline.views import View
from llmops.store.workspace import Workspace

if TYPE_CHECKING:
    from llmops.experiments.forecast import Curve

DRAWS = 5
Learn = Callable[[Sequence[Row]], np.ndarray]


def forecast(recipe: Recipe, at: Workspace, more: int = 500, wishes: Wishes = Wishes()) -> Forecast:
    """What `more` training rows would add, by kind of row, measured on the recipe's held-out rows.

    TF-IDF and the linear model on frozen hidden states are learned from nested subsets of the training rows, each size
    several times; both are fitted in seconds, so their curves have many points. Raises `RequestError` for a task
    without one right answer to a row, or too few rows.
    """
    from llmops.experiments.forecast import outlook

    if not isinstance(recipe.task, Classify | Rate):
        raise RequestError(f"task {recipe.task.kind!r} has no linear row to learn", "forecast is for classify and rate")
    manifest = prepare(recipe, at)
    metric, (sign, most) = measures_of(recipe.task)[0], _scale(recipe)
    curves = learning_curves(recipe, manifest, at, wishes)
    found = tuple(outlook(name, curve, more, most, sign) for name, curve in curves.items())
    return Forecast(
        recipe=recipe,
        dataset=manifest.id,
        metric=metric,
        rows=found[0].points[-1].rows,
        more=more,
        outlooks=found,
        because=_because(found, more, metric),
    )


def _scale(recipe: Recipe) -> tuple[float, float]:
    """(sign that makes more better, the best mark there is)."""
    return (-1.0, 0.0) if isinstance(recipe.task, Rate) else (1.0, 1.0)


def _because(found: Sequence[Outlook], more: int, metric: str) -> str:
    sign = -1 if metric in LOWER_IS_BETTER else 1
    best = max(found, key=lambda one: sign * one.points[-1].score)
    gain = f"{best.gain:+.3f} ({best.low:+.3f} to {best.high:+.3f}) to {best.row}, the best of these rows"
    if best.verdict == "helps":
        return f"The next {more:,} rows are expected to add {gain}."
    if best.verdict == "hurts":
        return f"The next {more:,} rows would add {gain}: look for what is wrong with the later ones."
    return f"It cannot be told whether the next {more:,} rows help: they would add {gain}."


def learning_curves(recipe: Recipe, manifest: DatasetManifest, at: Workspace, wishes: Wishes) -> dict[str, Curve]:
    """The curve of each kind of row, on the held-out rows of a data set."""
    from llmops.experiments.entrants import short
    from llmops.experiments.forecast import measure, sizes

    rows = [row for row in at.rows(manifest.id, "train") if row.label is not None]
    heldout = at.rows(manifest.id, "heldout")
    view = View(decided(recipe, manifest, at, wishes), at)
    learners = {"tfidf": None, f"frozen@{short(recipe.base)}": view}
    return {
        name: measure(rows, sizes(len(rows)), DRAWS, learner(recipe, rows, heldout, seen))
        for name, seen in at.world.track(learners.items(), "learning curves", len(learners))
    }


def learner(recipe: Recipe, rows: Sequence[Row], heldout: Sequence[Row], view: View | None) -> Learn:
    """What learns from some of `rows` and is marked on `heldout` (more is better), on a base's view if there is one."""
    from llmops.experiments import baselines
    from llmops.experiments.ratings import fit_rater
    from llmops.lm.ports import Probe

    place = {row.id: number for number, row in enumerate(rows)}
    texts, truth = [row.text for row in heldout], [str(row.label) for row in heldout]
    seen, asked = (view.probe(rows)[0], view.probe(heldout)[0]) if view else (None, None)
    task = recipe.task

    def part(some: Sequence[Row]) -> Probe:
        assert seen is not None
        places = [place[row.id] for row in some]
        return Probe(seen.logprobs_NK[places], seen.hidden_ND[places])

    def labels(some: Sequence[Row]) -> np.ndarray:
        assert isinstance(task, Classify)
        made = baselines.fit_frozen(some, task.labels, part(some)) if seen else baselines.fit_tfidf(some, task.labels)
        said = made.probabilities(texts, asked).argmax(axis=1)
        return np.array([float(task.labels[best] == true) for best, true in zip(said, truth, strict=True)])

    def numbers(some: Sequence[Row]) -> np.ndarray:
        made = fit_rater("frozen", some, part(some)) if seen else fit_rater("tfidf", some)
        said = made.numbers(texts, asked)
        return np.asarray(-np.abs(said - np.array([float(true) for true in truth])))

    return labels if isinstance(task, Classify) else numbers
