"""From what a person typed to a `Recipe`: a YAML file, a Python file, or the bare name of either."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llmops
from llmops.cli.bundled import bundled, load_file
from llmops.core.errors import RequestError

if TYPE_CHECKING:
    from llmops.core.recipe import Recipe
    from llmops.store.workspace import Workspace

ENDINGS = (".yaml", ".yml", ".py")


@dataclass(frozen=True)
class NewRecipe:
    """What `new` made: the file it wrote, the YAML in it, and what it saw."""

    recipe: Path
    yaml: str
    look: Any


def search_path(here: Path) -> tuple[Path, ...]:
    """The folders in which a bare name is looked up: `recipes/` where the person stands, then the shipped ones."""
    return (here / "recipes", bundled("recipes"))


def find_recipe(typed: str, sets: Sequence[str], at: Workspace, here: Path | None = None) -> Recipe:
    """The recipe that was named, with `--set` changes. A `.py` file is run, because a person named it.

    Raises `RequestError` where there is none, or it is wrong.
    """
    path = located(typed, search_path(here or Path.cwd()))
    if path.suffix != ".py":
        return llmops.load(str(path), sets, at)
    from llmops.core.recipe import Recipe

    found = getattr(load_file(path), "RECIPE", None)
    if not isinstance(found, Recipe):
        raise RequestError(f"{path} has no RECIPE", "write RECIPE = Recipe(...) at the top level of the file")
    from llmops.data.recipes import apply_sets

    return apply_sets(found, sets)


def located(typed: str, folders: Sequence[Path]) -> Path:
    """The file behind a path or a bare name. Raises `RequestError` with what is known."""
    path = Path(typed)
    if path.suffix in ENDINGS or path.name != typed:
        if path.is_file():
            return path
        raise RequestError(f"there is no file {typed}", "check the path, or make a recipe with 'llmops new FILE'")
    for folder in folders:
        for ending in ENDINGS:
            if (folder / f"{typed}{ending}").is_file():
                return folder / f"{typed}{ending}"
    known = sorted({file.stem for folder in folders for file in folder.glob("*") if file.suffix in ENDINGS})
    names = ", ".join(name for name in known if not name.startswith("_"))
    raise RequestError(f"there is no recipe {typed!r}", f"name a file, or one of: {names}")


def recipe_name(yaml: str) -> str:
    """The name that a recipe's YAML gives itself."""
    found = re.search(r"^name:\s*([a-z0-9-]+)", yaml, re.MULTILINE)
    return found[1] if found else "recipe"
