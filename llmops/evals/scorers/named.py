"""From what a person typed behind `--scorer` to a scorer: a kind, a function, a schema, a program.

A file that is named there may run, because a person named it; one that a suite's YAML names runs only where the person
also says `--trust FILE`. A suite keeps the file's name and sha256, not its path: other code, another suite.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmops.core.errors import RequestError
from llmops.core.scorers import Code, Function, Scorer
from llmops.evals.scorers.mark import OwnFunction
from llmops.evals.scorers.table import SCORERS
from llmops.store.files import read_json, sha256_file


def described(typed: str) -> tuple[dict[str, Any], Path | None]:
    """(the scorer as plain data, the file that it names) that was typed. Raises `RequestError` for anything else."""
    if typed in SCORERS:
        return {"kind": typed}, None
    file, colon, name = typed.rpartition(":")
    if colon and name and file.endswith(".py"):
        return {"kind": "function", "function": f"{Path(file).name}:{name}"}, _there(Path(file))
    path = Path(typed)
    if path.suffix == ".json":
        return {"kind": "schema", "wanted": _schema(_there(path))}, None
    if path.is_file():
        return {"kind": "code", "program": path.name}, path
    raise RequestError(
        f"there is no scorer {typed!r}",
        f"one of: {', '.join(SCORERS)}; or FILE.py:function, SCHEMA.json, or a program of yours",
    )


def _schema(path: Path) -> dict[str, Any]:
    wanted = read_json(path)
    if not isinstance(wanted, dict):
        raise RequestError(f"{path} is no JSON schema: it holds no object", 'write one: {"type": "object", ...}')
    return wanted


def _there(path: Path) -> Path:
    if not path.is_file():
        raise RequestError(f"there is no file {path}", "check the path")
    return path


def pinned(scorer: Scorer, trusted: Sequence[Path]) -> Scorer:
    """The scorer with the sha256 of its file. Raises `RequestError` where the file is another one than it says."""
    if not isinstance(scorer, Function | Code) or (file := _named(scorer, trusted)) is None:
        return scorer
    found = sha256_file(file)
    if scorer.sha256 not in ("", found):
        raise RequestError(f"{file} is not the file that the suite names", f"its sha256 must be {scorer.sha256[:12]}…")
    return scorer.replace(sha256=found)


def functions_of(scorer: Scorer, trusted: Sequence[Path]) -> dict[str, OwnFunction]:
    """The function that a scorer names, out of a file that a person named: that file is run."""
    if not isinstance(scorer, Function) or (file := _named(scorer, trusted)) is None:
        return {}
    return {scorer.function: load_function(file, scorer.function.partition(":")[2])}


def programs_of(scorer: Scorer, trusted: Sequence[Path]) -> Mapping[str, Path]:
    """The program that a scorer names, where a person named it too."""
    file = _named(scorer, trusted) if isinstance(scorer, Code) else None
    return {scorer.program: file} if isinstance(scorer, Code) and file else {}


def _named(scorer: Function | Code, trusted: Sequence[Path]) -> Path | None:
    wanted = scorer.program if isinstance(scorer, Code) else scorer.function.partition(":")[0]
    return next((_there(path) for path in trusted if path.name == Path(wanted).name), None)


def scorer_of(own: OwnFunction) -> Function:
    """The scorer that a Python function is: its name, and the sha256 of its source, which must be there to be read."""
    try:
        source = inspect.getsource(own)
    except (OSError, TypeError) as error:
        raise RequestError(
            f"{own!r} has no source that can be read", "write it as a function in a file or a cell"
        ) from error
    name = f"{own.__module__}:{own.__qualname__}"
    return Function(function=name, sha256=hashlib.sha256(source.encode()).hexdigest())


def load_function(file: Path, name: str) -> OwnFunction:
    """Run a Python file and take one function of it. Raises `RequestError` where it does not run or has none."""
    module_name = f"llmops_scorer_{file.stem}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise RequestError(f"{file} is no Python file", "name a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up by name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise RequestError(
            f"{file} does not run: {type(error).__name__}: {error}", "run it with python to see the whole error"
        ) from error
    found = getattr(module, name, None)
    if not callable(found):
        raise RequestError(f"{file} has no function {name!r}", "write def mark(answer, question): return 1.0")
    own: OwnFunction = found
    return own
