"""The house obeys its rules, and each rule catches the fault that it is there for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.architecture import rules
from tests.architecture.tree import FLOORS, REPOSITORY

Rule = Callable[[Path], list[str]]
RULES: list[Rule] = [
    rules.imports_point_down,
    rules.rooms_are_seen_by_the_pipeline_only,
    rules.heavy_libraries_stay_home,
    rules.every_room_has_its_door,
    rules.nothing_is_too_large,
    rules.nothing_unsafe,
    rules.nothing_unfinished,
    rules.no_hidden_clock,
    rules.dependencies_are_declared_and_used,
]
PYPROJECT = '[project]\nname = "llmops"\ndependencies = [\n    %s\n]\n'
# (rule, file, what is planted in it, what the rule must say)
FAULTS: list[tuple[Rule, str, str, str]] = [
    (rules.imports_point_down, "llmops/core/value.py", "import llmops.store.files", "imports store"),
    (rules.imports_point_down, "llmops/store/files.py", "from llmops.lm import render", "imports lm"),
    (rules.imports_point_down, "llmops/lm/model.py", "from ..store.files import sync", "imports store"),
    (
        rules.imports_point_down,
        "llmops/data/prepare.py",
        "def f():\n    from llmops.training.train import train",
        "imports training",
    ),
    (rules.imports_point_down, "llmops/training/train.py", "from llmops import plan", "imports pipeline"),
    (rules.imports_point_down, "llmops/pipeline/make.py", "from llmops.cli import main", "imports cli"),
    (rules.imports_point_down, "llmops/serving/serve.py", "import app.main", "imports app"),
    (rules.imports_point_down, "llmops/attic/box.py", "x = 1", "stands on no floor"),
    (
        rules.rooms_are_seen_by_the_pipeline_only,
        "llmops/cli/make.py",
        "from llmops.data import prepare\nfrom llmops.evals import suite",
        "sees 2 rooms: data, evals",
    ),
    (rules.heavy_libraries_stay_home, "llmops/data/prepare.py", "import torch.nn", "imports torch"),
    (rules.heavy_libraries_stay_home, "llmops/cli/use.py", "def f():\n    import gradio as gr", "imports gradio"),
    (rules.heavy_libraries_stay_home, "llmops/registry/names.py", "from sqlalchemy import text", "imports sqlalchemy"),
    (rules.heavy_libraries_stay_home, "llmops/training/train.py", "import ray", "belongs to nobody"),
    (rules.every_room_has_its_door, "llmops/data/__init__.py", "", "does not say what the part is"),
    (rules.every_room_has_its_door, "llmops/pipeline/make.py", "def training(): ...", "is a room and a verb"),
    (rules.nothing_is_too_large, "llmops/data/prepare.py", "x = 1\n" * 401, "401 lines"),
    (rules.nothing_is_too_large, "tests/unit/test_x.py", "def f():\n" + "    x = 1\n" * 60, "f has 61 lines"),
    (rules.nothing_is_too_large, "app/main.py", "def f(a, b, c, d, *, e, f, g): ...", "takes 7 parameters"),
    (rules.nothing_unsafe, "llmops/store/files.py", "import pickle", "imports pickle"),
    (rules.nothing_unsafe, "llmops/training/train.py", "torch.load('x')", "calls torch.load"),
    (rules.nothing_unsafe, "llmops/data/recipes.py", "yaml.load(text)", "calls yaml.load"),
    (rules.nothing_unsafe, "llmops/store/sources.py", "subprocess.run('x', shell=True)", "passes shell"),
    (rules.nothing_unsafe, "llmops/lm/base.py", "load(folder, trust_remote_code=False)", "passes trust_remote_code"),
    (rules.nothing_unfinished, "llmops/lm/base.py", "x = 1  # TODO: more", "TODO"),
    (rules.nothing_unfinished, "llmops/lm/base.py", "def f():\n    raise NotImplementedError", "NotImplementedError"),
    (rules.nothing_unfinished, "tests/unit/test_x.py", "try:\n    f()\nexcept OSError:\n    pass", "swallowed"),
    (rules.no_hidden_clock, "llmops/registry/promote.py", "moment = datetime.now(UTC)", "datetime.now"),
    (rules.dependencies_are_declared_and_used, "llmops/data/prepare.py", "import requests", "does not name"),
    (rules.dependencies_are_declared_and_used, "pyproject.toml", PYPROJECT % '"rich>=1",  # bars', "nothing imports"),
    (rules.dependencies_are_declared_and_used, "pyproject.toml", PYPROJECT % '"numpy>=2",', "does not say what"),
]


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A small house that obeys every rule."""
    for part in FLOORS:
        folder = tmp_path / part if part in ("app", "recipes") else tmp_path / "llmops" / part
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(f'"""The {part} of a small house."""\n')
    (tmp_path / "llmops" / "__init__.py").write_text('"""A small house."""\n')
    (tmp_path / "llmops" / "pipeline" / "make.py").write_text(
        "import numpy\nfrom llmops.data import prepare\nfrom llmops.evals import suite\n\n\ndef train(): ...\n"
    )
    (tmp_path / "pyproject.toml").write_text(PYPROJECT % '"numpy>=2",  # arrays')
    return tmp_path


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_obeys(rule: Rule) -> None:
    assert rule(REPOSITORY) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_small_good_house_obeys(rule: Rule, house: Path) -> None:
    assert rule(house) == []


@pytest.mark.parametrize(("rule", "file", "fault", "said"), FAULTS, ids=lambda part: getattr(part, "__name__", None))
def test_a_planted_fault_is_found(rule: Rule, file: str, fault: str, said: str, house: Path) -> None:
    path = house / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(fault)
    found = rule(house)
    assert any(said in violation for violation in found), found


def test_every_rule_has_a_planted_fault() -> None:
    assert {rule for rule, *_ in FAULTS} == set(RULES)


def test_a_missing_room_is_found(house: Path) -> None:
    shutil.rmtree(house / "llmops" / "evals")
    assert "llmops/evals/ has no __init__.py" in rules.every_room_has_its_door(house)
