"""A whole tournament on a tiny base: everybody plays, the cheapest that is not worse wins, nothing is done twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmops.core.choice import Choice, Contest
from llmops.core.dataset import DatasetManifest
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.recipe import Recipe
from llmops.core.report import EvalReport
from llmops.pipeline import choose
from llmops.store.workspace import Workspace
from tests.unit.tiny_life import made_up_rows, tiny_recipe, write_csv

CONTEST = Contest(budget_s=60, ranks=(2, 4), shots=2)


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> tuple[Recipe, Workspace, Choice]:
    folder = tmp_path_factory.mktemp("choose")
    recipe = tiny_recipe(tiny_base, write_csv(folder / "rows.csv", made_up_rows(240)), epochs=0.5)
    at = Workspace.find(folder / "workspace", environ={})
    contest = CONTEST.replace(bases=(recipe.base,))
    return recipe, at, choose(recipe, at, contest)


def test_every_kind_plays_and_the_linear_row_wins(held: tuple[Recipe, Workspace, Choice]) -> None:
    recipe, at, choice = held
    base = choice.entries[2].entrant.name.partition("@")[2]
    assert {entry.entrant.name for entry in choice.entries} >= {"majority", "tfidf", f"frozen@{base}"}
    print(
        [(e.entrant.name, e.trial.value, e.cost) for e in choice.entries],
        choice.absent,
        choice.verdict,
        choice.judged,
        choice.then,
    )
