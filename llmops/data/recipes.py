"""`load_recipe`: a recipe from YAML, checked, with errors that name the line; and `--set` changes to one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llmops.core.errors import RequestError
from llmops.core.recipe import Recipe
from llmops.data.recipe_errors import fields_at, in_plain_words
from llmops.data.yaml_nodes import LARGEST_BYTES, Node, parse_yaml

ENDINGS = (".yaml", ".yml")


def load_recipe(path_or_name: str, search: Sequence[Path] = ()) -> Recipe:
    """The recipe in a YAML file, given by its path, or by its bare name in one of the `search` folders.

    Raises `RequestError` naming file, line and field where it is not a recipe.
    """
    path = find(path_or_name, search)
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise RequestError(
                f"{path} is larger than 1 MiB", "a recipe is some lines long; put rows into a file of their own"
            )
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: byte {error.start + 1} is not UTF-8", "save the recipe as UTF-8") from error
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}", "check the file and its permissions") from error
    return parse_recipe(text, str(path))


def find(path_or_name: str, search: Sequence[Path]) -> Path:
    """The file that a path or a bare name means; `RequestError` with the nearest name where there is none."""
    path = Path(path_or_name)
    try:
        there = path.is_file()
    except OSError:  # too long a name
        there = False
    if there:
        return path
    if path.suffix in ENDINGS or "\0" in path_or_name or len(path_or_name) > 200:
        raise RequestError(
            f"there is no file {path_or_name[:200]!r}", "check the path, or make a recipe with 'llmops new FILE'"
        )
    for folder in search:
        for ending in ENDINGS:
            if (folder / f"{path_or_name}{ending}").is_file():
                return folder / f"{path_or_name}{ending}"
    known = sorted({file.stem for folder in search for ending in ENDINGS for file in folder.glob(f"*{ending}")})
    near = get_close_matches(path_or_name, known, 1, 0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise RequestError(
        f"there is no recipe {path_or_name!r}",
        f"{hint}name a YAML file{', or one of: ' + ', '.join(known) if known else ''}",
    )


def parse_recipe(text: str, name: str) -> Recipe:
    """The recipe in a YAML text; errors call it `name`."""
    root = parse_yaml(text, name)
    return _checked(_numbered(root.plain()), name, root)


def apply_sets(recipe: Recipe, sets: Sequence[str]) -> Recipe:
    """The recipe with changes such as `method.rank=32` or `data.sources.0.train_rows=100`; `null` opens a knob.

    Values are YAML. Raises `RequestError` naming the change that is wrong and the nearest field.
    """
    data = recipe.to_json()
    for change in sets:
        path, equals, text = change.partition("=")
        name = f"--set {change}"
        if not equals or not path.strip():
            raise RequestError(f"{name} is no change", "write --set FIELD=VALUE, such as --set method.rank=32")
        value = parse_yaml(text, name).plain() if text.strip() else None
        _set(data, path.strip().split("."), value, name)
        # Checked one by one, so that an error names the change it comes from.
        data = _checked(data, name, None).to_json()
    return _checked(data, "--set", None) if sets else recipe


def _set(data: Any, path: list[str], value: Any, name: str) -> None:
    """Put `value` at `path` in plain data; a mapping that is open is made."""
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(data, list):
            if not (part.isascii() and part.isdigit() and int(part) < len(data)):
                places = f"from 0 to {len(data) - 1}" if data else "none, it is empty"
                what = f"{name}: {'.'.join(path[:depth])} has no place {part!r}"
                raise RequestError(what, f"its places are {places}")
            key: Any = int(part)
        elif isinstance(data, dict):
            key = part
        else:
            what = f"{name}: {'.'.join(path[:depth])} is a plain value"
            raise RequestError(what, f"set {'.'.join(path[:depth])} itself")
        if last:
            if key == "kind" and isinstance(data, dict) and data.get(key) != value:
                data.clear()  # another kind has other fields
            data[key] = value
            return
        if isinstance(data, dict) and data.get(key) is None:
            if depth == 0 and key not in data:
                near = get_close_matches(part, fields_at(()), 1, 0.5)
                hint = f"did you mean {near[0]!r}? " if near else ""
                what = f"{name}: there is no field {part!r} in a recipe"
                raise RequestError(what, f"{hint}the fields are: {', '.join(fields_at(()))}")
            data[key] = {}
        data = data[key]


def _numbered(data: Any) -> Any:
    """A stored recipe carries its schema number, which is no text."""
    if isinstance(data, dict) and data.get("schema_number") == "1":
        return {**data, "schema_number": 1}
    return data


def _checked(data: Any, name: str, root: Node | None) -> Recipe:
    """The recipe in plain data; `RequestError` in plain words where it is none."""
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        raise in_plain_words(error, name, root) from error
    for source in recipe.data.sources:
        cut = getattr(source.shape, "cut", None)
        bounds = {**cut.at_least, **cut.at_most} if cut else {}
        for label, bound in bounds.items():
            if not math.isfinite(bound):
                raise RequestError(f"{name}: the cut of label {label!r} is {bound}", "give it a finite number")
    return recipe
