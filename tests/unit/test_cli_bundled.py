"""Recipes by a bare name, and what a clone and a wheel bring with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmops.cli import bundled, recipes
from llmops.core.errors import LlmopsError, RequestError


def test_a_bare_name_is_looked_up_here_and_then_among_the_shipped(tmp_path: Path) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    (shipped / "tone.py").touch()
    assert recipes.located("tone", (tmp_path / "recipes", shipped)) == shipped / "tone.py"
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "tone.yaml").touch()
    assert recipes.located("tone", (tmp_path / "recipes", shipped)) == tmp_path / "recipes" / "tone.yaml"
    with pytest.raises(RequestError) as error:
        recipes.located("ton", (tmp_path / "recipes", shipped))
    assert "tone" in error.value.fix


def test_the_app_and_the_recipes_are_found_in_a_clone_and_in_a_wheel(tmp_path: Path) -> None:
    package = tmp_path / "llmops"
    (tmp_path / "recipes").mkdir()
    assert bundled.bundled("recipes", package) == tmp_path / "recipes"
    (package / "recipes").mkdir(parents=True)
    assert bundled.bundled("recipes", package) == package / "recipes"
    with pytest.raises(LlmopsError, match="app"):
        bundled.bundled("app", package)


def test_a_folder_is_loaded_as_a_package_with_relative_imports(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text("from .inside import word\n")
    (tmp_path / "inside.py").write_text("word = 'yes'\n")
    assert bundled.load_package(tmp_path, "llmops_planted").word == "yes"
