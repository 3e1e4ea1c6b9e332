"""A data set of trials, made of training rows only; and the two layouts that single packages have."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from llmops.core.dataset import DatasetManifest
from llmops.core.errors import RequestError
from llmops.core.review import LeakGate
from llmops.data.packaged import read_folders
from llmops.data.part import trial_set
from llmops.data.prepare import prepare
from llmops.data.readers import READERS
from llmops.store.sources import _extract
from llmops.store.workspace import Workspace
from tests.unit.tiny_life import made_up_rows, tiny_recipe, write_csv


@pytest.fixture
def made(tmp_path: Path, workspace: Workspace) -> DatasetManifest:
    csv = write_csv(tmp_path / "rows.csv", made_up_rows(200))
    return prepare(tiny_recipe(tmp_path / "base", csv), workspace)


def test_trials_are_training_rows_of_both_labels_and_nothing_is_lost(
    made: DatasetManifest, workspace: Workspace
) -> None:
    trial = trial_set(made, 0.35, None, LeakGate(), workspace)
    learn, tried = workspace.rows(trial.id, "train"), workspace.rows(trial.id, "heldout")
    assert trial.rows_read == made.rows_train
    assert {row.id for row in (*learn, *tried)} <= {row.id for row in workspace.rows(made.id, "train")}
    assert {row.label for row in tried} == {row.label for row in learn} == {"good", "bad"}
    assert 0.3 <= len(tried) / trial.rows_read <= 0.4
    assert trial_set(made, 0.35, None, LeakGate(), workspace) == trial


def test_fewer_rows_may_take_part(made: DatasetManifest, workspace: Workspace) -> None:
    assert trial_set(made, 0.3, 60, LeakGate(), workspace).rows_read == 60


def test_what_leaks_into_the_trials_is_dropped_and_counted(tmp_path: Path, workspace: Workspace) -> None:
    rows = made_up_rows(160)
    twins = [(f"{text}!", label, place) for text, label, place in rows[:40]]  # the same words
    recipe = tiny_recipe(tmp_path / "base", write_csv(tmp_path / "rows.csv", [*rows, *twins]))
    plain = recipe.replace(data=recipe.data.replace(steps=()))
    prepared = prepare(plain, workspace)
    trial = trial_set(prepared, 0.35, None, LeakGate(), workspace)
    words = [
        {" ".join(row.text.rstrip("!").split()) for row in workspace.rows(trial.id, part)}
        for part in ("train", "heldout")
    ]
    assert trial.rows_dropped > 0 and not words[0] & words[1]


def test_too_few_rows_are_refused(tmp_path: Path, workspace: Workspace) -> None:
    made = prepare(tiny_recipe(tmp_path / "base", write_csv(tmp_path / "rows.csv", made_up_rows(24))), workspace)
    with pytest.raises(RequestError, match="too few to choose"):
        trial_set(made, 0.35, None, LeakGate(), workspace)


def test_a_folder_of_a_package_is_read_with_its_folders_as_labels(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "package", "w") as package:
        package.writestr("news/data/sports/002.txt", "A goal for \u00a33m".encode("cp1252"))
        package.writestr("news/data/sports/001.txt", "A goal")
        package.writestr("news/data/tech/001.txt", "A chip")
        package.writestr("news/code.py", "raise SystemExit")
    _extract(tmp_path / "package", "news/data/", tmp_path / "inside")
    records = list(read_folders(tmp_path / "inside", ()))
    cells = [record.cells or {} for record in records]
    assert [(one["label"], one["text"]) for one in cells] == [
        ("sports", "A goal"), ("sports", "A goal for £3m"), ("tech", "A chip"),
    ]  # fmt: skip
    with pytest.raises(RequestError, match="holds no"):
        _extract(tmp_path / "package", "news/nothing/", tmp_path / "none")
    (tmp_path / "text").write_text("no zip")
    with pytest.raises(RequestError, match="no zip"):
        list(read_folders(tmp_path / "text", ()))


def test_a_passage_stands_behind_its_question(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"question": "Who?", "context": "Me.", "answer": "True"}) + "\nnot json\n")
    first, second = READERS["passages"](path, ())
    assert first.cells == {"question": "Who?", "context": "Me.", "answer": "True", "text": "Who?\nMe."}
    assert second.cells is None
