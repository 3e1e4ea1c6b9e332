"""What people liked, learned from thumbs (KTO) or pairs (DPO), with every row held out once: five folds, one interval.

A single split of 300 conversations holds out too few to tell 0.6 from 0.5. `python -m tests.benchmarks.folds thumbs
[preferences] [--workspace DIR]` prints one JSON line a recipe. A fold takes a GPU half a minute, two cores a quarter of
an hour; a fold that is done stays in the workspace.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sys
from itertools import count, islice
from pathlib import Path
from typing import Any

from llmops.core.cleaning import Normalise, Quality
from llmops.core.context import Surroundings
from llmops.core.method import DPO, KTO, Training
from llmops.core.recipe import Recipe
from llmops.core.report import EvalReport
from llmops.core.sources import Data, Source
from llmops.core.tasks import Reply
from llmops.data.steps.deal import Side, side_of
from llmops.evals.intervals import wilson
from llmops.pipeline.judge import evaluate
from llmops.pipeline.make import plan, prepare, train
from llmops.store.catalogue import DATA
from llmops.store.sources import fetch
from llmops.store.workspace import Workspace

FOLDS = 5
SHARE = 1 / FOLDS
MEASURE = "reward_accuracy"
# Chosen before the folds were looked at: for pairs what the recipe `chosen` has (but room for the longest
# row), for thumbs a rate of 5e-4, beside
# which 2e-4 for three passes was tried (LOG.md).
SETTINGS = {
    "thumbs": (KTO(beta=0.1), Training(epochs=1, max_tokens=2048, learning_rate=5e-4, batch_rows=8), 6000),
    "preferences": (DPO(beta=0.1), Training(epochs=1, max_tokens=2304), 2500),
}


def groups(side: Side, number: int) -> list[str]:
    """So many names of groups that the split deals to this side."""
    return list(islice((name for name in map("fold {}".format, count()) if side_of(name, SHARE) == side), number))


def write_folds(name: str, out: Path, world: Surroundings) -> list[Path]:
    """The rows of a source, a file for each fold, in which a column says who is held out. As many liked as disliked."""
    entry = DATA[name]
    rows: list[dict[str, Any]] = json.loads(fetch(entry.address, entry.sha256, world, entry).path.read_text())
    order = list(range(len(rows)))
    random.Random(0).shuffle(order)
    order.sort(key=lambda place: str(rows[place].get("label")))
    fold_of = {place: number % FOLDS for number, place in enumerate(order)}
    held, taught = groups("heldout", len(rows)), groups("train", len(rows))
    files = []
    for fold in range(FOLDS):
        sides = [(held if fold_of[place] == fold else taught)[place] for place in range(len(rows))]
        lines = [json.dumps({**row, "group": side}) for row, side in zip(rows, sides, strict=True)]
        files.append(out / f"{name}-{fold}.jsonl")
        files[-1].write_text("\n".join(lines) + "\n")
    return files


def recipe(name: str, rows: Path, trained: Training) -> Recipe:
    """One fold."""
    row, (objective, _, most_characters) = DATA[name].row, SETTINGS[name]
    assert row is not None
    source = Source(from_=f"path:{rows}", shape=row.shape, group="group")
    return Recipe(
        name=rows.stem,
        data=Data(
            sources=(source,), heldout_share=SHARE, steps=(Normalise(), Quality(most_characters=most_characters))
        ),
        task=Reply(measures=(MEASURE,)),
        objective=objective,
        training=trained,
    )


def measured(one: Recipe, at: Workspace) -> EvalReport:
    """The report of a fold, trained unless it was."""
    made = plan(one, prepare(one, at), at)
    runs = [at.run(one) for one in at.run_ids()]
    done = next((run for run in runs if run.plan == made.id and run.status == "finished"), None)
    return evaluate((done or train(made, at)).id, at)


def main() -> None:
    """Print a line for each source."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("names", nargs="*", choices=list(SETTINGS), default=["thumbs"])
    asked.add_argument("--workspace", type=Path)
    asked.add_argument("--rate", type=float, default=None)
    asked.add_argument("--epochs", type=float, default=None)
    given = asked.parse_args()
    at = Workspace.find(given.workspace, Surroundings(say=lambda line: print(line, file=sys.stderr)))
    changed = {key: value for key, value in (("learning_rate", given.rate), ("epochs", given.epochs)) if value}
    for name in given.names:
        trained = SETTINGS[name][1].replace(**changed)
        scores = []
        for rows in write_folds(name, at.root, at.world):
            scores.append(measured(recipe(name, rows, trained), at).scores[MEASURE])
        right, n = sum(score.value * score.n for score in scores), sum(score.n for score in scores)
        low, high = wilson(right, n)
        line = {
            "benchmark": f"{name}: {MEASURE}, every row held out once",
            "unit": "share",
            "ours": round(right / n, 4),
            "low": round(low, 4),
            "high": round(high, 4),
            "n": n,
            "folds": [round(score.value, 3) for score in scores],
            "goal": "above 0.5",
            "met": low > 0.5,
            "machine": platform.processor() or platform.machine(),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
