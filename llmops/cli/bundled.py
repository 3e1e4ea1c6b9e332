"""Where the app and the recipes lie: beside the package in a clone, inside it in a wheel."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from llmops.core.errors import LlmopsError, RequestError

PACKAGE = Path(__file__).resolve().parent.parent


def bundled(name: str, package: Path = PACKAGE) -> Path:
    """The folder `app` or `recipes` that came with llmops. Raises `LlmopsError` where it is missing."""
    for folder in (package / name, package.parent / name):
        if folder.is_dir():
            return folder
    raise LlmopsError(
        f"llmops came without its folder {name!r}", "install it again: pip install --force-reinstall llmops"
    )


def load_package(folder: Path, name: str) -> ModuleType:
    """Import `folder` as the package `name`, so that its relative imports work wherever it lies."""
    door = folder / "__init__.py"
    spec = importlib.util.spec_from_file_location(name, door, submodule_search_locations=[str(folder)])
    return _execute(spec, name)


def load_file(path: Path) -> ModuleType:
    """Run one Python file, because a person named it, as a module that no import finds by chance.

    Raises `RequestError` where it cannot be run.
    """
    name = f"llmops_recipe_{path.stem}"
    try:
        return _execute(importlib.util.spec_from_file_location(name, path), name)
    except (SyntaxError, ImportError) as error:
        raise RequestError(f"{path} does not run: {error}", "run it with python to see the whole error") from error


def _execute(spec: ModuleSpec | None, name: str) -> ModuleType:
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # relative imports and dataclasses look their module up by name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
