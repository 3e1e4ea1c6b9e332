"""The chooser and the forecaster on real tasks: regret of the pick, linear where tied, and the hidden largest subset.

`python -m tests.benchmarks.choose [--only TASK ...] [--workspace DIR] [--budget SECONDS]`: one JSON line a figure. A
task takes five to fifteen minutes on 2 cores; what was measured stays in the workspace: a second call prints at once.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.choice import Choice, Contest, Entry
from llmops.core.context import Surroundings
from llmops.core.plan import Wishes
from llmops.core.recipe import Baselines, Recipe
from llmops.core.report import LOWER_IS_BETTER
from llmops.core.sources import Data, Rated, Source
from llmops.core.tasks import Classify, Rate
from llmops.experiments.forecast import Curve, expected
from llmops.pipeline.choose import choose
from llmops.pipeline.forecast import learning_curves
from llmops.pipeline.make import prepare
from llmops.store.workspace import Workspace

SMOL, GEMMA = "smollm2-135m-q4", "gemma3-270m-q4"
TONE = Classify(question="Positive or negative?", labels=("negative", "positive"))
WORDS = Baselines(word_list="vader/lexicon")
LINEAR = ("tfidf", "frozen", "nearest")


def tone(name: str, *sources: Source) -> Recipe:
    """A recipe of sentences that people rated."""
    return Recipe(name=name, data=Data(sources=sources), task=TONE, baselines=WORDS)


def source(name: str, train: int, heldout: int) -> Source:
    """So many rows of a source."""
    return Source(from_=name, train_rows=train, heldout_rows=heldout)


RATING = Recipe(
    name="rating",
    data=Data(sources=(source("vader/tweets", 2000, 600).replace(shape=Rated(text="text", number="rating")),)),
    task=Rate(question="How positive is this, from -4 to 4?"),
)
TOPICS = Recipe(
    name="topics",
    data=Data(sources=(source("bbc", 600, 400),)),
    task=Classify(
        question="Which section is this from?", labels=("business", "entertainment", "politics", "sports", "tech")
    ),
)
PRIVACY = Recipe(
    name="privacy",
    data=Data(sources=(source("privacy", 10000, 1000),)),
    task=Classify(question="Does the passage bear on the question? True or False?", labels=("False", "True")),
)

# Everything on both bases once; elsewhere what two cores do in ten minutes. As many rows as the packages carry,
# where two cores can read them: 250 trial rows hide a loss of seven points, 600 held-out rows one of five.
# A rating is asked by generating, row by row: not of the bare base.
FULL = Contest(bases=(SMOL, GEMMA), budget_s=900)
CUT = Contest(
    bases=(SMOL,),
    ranks=(16,),
    budget_s=900,
    only=("majority", "word_list", "tfidf", "frozen", "nearest", "zero_shot", "tuned"),
)
RATED = CUT.replace(only=("majority", "tfidf", "frozen", "nearest", "tuned"))

TASKS: dict[str, tuple[Recipe, Contest]] = {
    "movies": (tone("movies", source("vader/movies", 1500, 1200)), CUT),
    "topics": (TOPICS, CUT),
    "products": (tone("products", source("vader/tweets", 300, 1), source("vader/amazon", 2400, 600)), CUT),
    "privacy": (PRIVACY, CUT),
    "rating": (RATING, RATED),
    "tweets": (tone("tweets", source("vader/tweets", 2000, 600)), CUT),
    "both": (tone("both", source("vader/tweets", 1000, 600)), FULL),
}


def figures(name: str, at: Workspace, budget_s: float | None) -> Iterator[dict[str, Any]]:
    """The figures of one task."""
    recipe, contest = TASKS[name]
    choice = choose(recipe, at, contest.replace(budget_s=budget_s) if budget_s else contest)
    yield from chosen(name, choice)
    yield from foretold(name, recipe, at)


def chosen(name: str, choice: Choice) -> Iterator[dict[str, Any]]:
    """Regret on the held-out rows, in points of a share or hundredths of the scale, and whether linear was due."""
    judged = [entry for entry in choice.entries if entry.heldout is not None]
    sign = -1 if judged[0].trial.metric in LOWER_IS_BETTER else 1

    def worth(entry: Entry) -> float:
        assert entry.heldout is not None
        return sign * entry.heldout.value

    pick, best = choice.entry(choice.verdict.pick), max(judged, key=worth)
    points = choice.verdict.margin / (choice.contest.margin or 0.01)
    regret = 100 * (worth(best) - worth(pick)) / (points / 0.01 * 0.01)
    about = {"pick": pick.entrant.name, "best": best.entrant.name, "judged": choice.judged, "s": round(choice.seconds)}
    yield figure(f"{name} regret", "points", regret, "at most 1", regret <= 1, **about)
    tied = [one.entrant.name for one in choice.entries if one.entrant.kind in LINEAR and one.behind and one.behind.tied]
    linear = pick.entrant.kind in (*LINEAR, "majority", "word_list")
    yield figure(f"{name} linear where tied", "share", float(linear or not tied), "1", linear or not tied, tied=tied)


def foretold(name: str, recipe: Recipe, at: Workspace) -> Iterator[dict[str, Any]]:
    """The largest size hidden: the band that the smaller ones give, and the score that was measured."""
    curves = learning_curves(recipe, prepare(recipe, at), at, Wishes())
    most = 0.0 if isinstance(recipe.task, Rate) else 1.0
    for kind, curve in curves.items():
        value, low, high = expected(hidden(curve), int(curve.sizes_S[-1]), most)
        seen = float(curve.marks_SJN[-1, 0].mean())
        about = {"expected": round(value, 4), "low": round(low, 4), "high": round(high, 4)}
        yield figure(f"{name} forecast {kind}", "score", seen, "within the band", low <= seen <= high, **about)


def hidden(curve: Curve) -> Curve:
    """The curve without its largest size."""
    return Curve(curve.sizes_S[:-1], np.asarray(curve.marks_SJN[:-1]))


def figure(what: str, unit: str, ours: float, goal: str, met: bool, **about: object) -> dict[str, Any]:
    """One line."""
    machine = f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores"
    return {
        "benchmark": f"choose: {what}",
        "unit": unit,
        "ours": round(ours, 4),
        "goal": goal,
        "met": bool(met),
        **about,
        "machine": machine,
    }


def main() -> None:
    """Print the figures of every task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--budget", type=float)
    asked = parser.parse_args()
    at = Workspace.find(asked.workspace, Surroundings(say=lambda line: print(line, file=sys.stderr)))
    for name in asked.only:
        for line in figures(name, at, asked.budget):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
