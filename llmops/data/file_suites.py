"""A suite of one's own rows from YAML, and changes to how it asks: `--set scorer.tolerance=0.1`."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError

from llmops.core.errors import RequestError
from llmops.core.file_suites import FileSuite
from llmops.core.scorers import Scorer
from llmops.core.serving import Sampling
from llmops.core.suites import Asking, Examples
from llmops.data.yaml_nodes import parse_yaml

ASKING: TypeAdapter[Any] = TypeAdapter(Asking)


def load_suite(file: Path, sets: Sequence[str] = ()) -> tuple[FileSuite, Path]:
    """The suite in a YAML file, with changes, and where its rows are. Raises `RequestError` naming the field."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{file} cannot be read: {error}", "name a YAML file in UTF-8") from error
    data = parse_yaml(text, str(file)).plain()
    if not isinstance(data, dict) or not isinstance(data.get("asking"), dict):
        raise RequestError(
            f"{file} is no suite", "write rows: FILE, and asking: {kind: generate, scorer: {kind: exact}}"
        )
    changed = {**data, "asking": with_sets(data["asking"], sets)}
    try:
        found = FileSuite.model_validate(changed)
    except ValidationError as error:
        raise plainly(error, str(file)) from error
    return found, file.parent / found.rows


def asking_of(data: dict[str, Any], sets: Sequence[str], name: str) -> Asking:
    """How to ask, from plain data and changes to it. Raises `RequestError` naming the field that is wrong."""
    try:
        asking: Asking = ASKING.validate_python(with_sets(data, sets))
    except ValidationError as error:
        raise plainly(error, name) from error
    return asking


def with_sets(data: dict[str, Any], sets: Sequence[str]) -> dict[str, Any]:
    """A copy of plain data with `path.to.field=value` changes; values are YAML."""
    made = dict(data)
    for change in sets:
        path, equals, text = change.partition("=")
        *above, last = path.strip().split(".")
        if not equals or not last:
            raise RequestError(
                f"--set {change} is no change", "write --set FIELD=VALUE, such as --set scorer.tolerance=1"
            )
        here = made
        for part in above:
            below = here.get(part) or {}
            if not isinstance(below, dict):
                raise RequestError(f"--set {change}: {part} is a plain value", f"set {part} itself")
            here[part] = dict(below)
            here = here[part]
        # A pattern is a text, whatever YAML makes of its signs.
        here[last] = (
            text if last == "pattern" else parse_yaml(text, f"--set {change}").plain() if text.strip() else None
        )
    return made


def plainly(error: ValidationError, name: str) -> RequestError:
    """The first thing that is wrong, unknown fields before others."""
    errors = sorted(error.errors(include_url=False), key=lambda item: item["type"] != "extra_forbidden")
    loc, what = [str(part) for part in errors[0]["loc"]], errors[0]["msg"].removeprefix("Value error, ")
    # The kind of a value stands in front of its fields; a field may be called like a kind (`code`), never twice.
    path = ".".join(part for place, part in enumerate(loc) if part not in KINDS or place == len(loc) - 1) or "asking"
    if errors[0]["type"] != "extra_forbidden":
        what = what.replace("Input should", "it should").replace("Input tag", "the kind")
        return RequestError(f"{name}: {path}: {what}", "set it with --set FIELD=VALUE, or in the YAML file")
    above = TYPES.get(loc[-2]) if len(loc) > 1 else FileSuite
    known = sorted(above.model_fields) if above else []
    near = get_close_matches(loc[-1], known, 1, 0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return RequestError(f"{name}: there is no field {path!r}", f"{hint}the fields are: {', '.join(known)}")


def _kinds(union: Any) -> dict[str, type[BaseModel]]:
    return {kind.model_fields["kind"].default: kind for kind in get_args(get_args(union)[0])}


# By the names that stand in the path of an error.
KINDS: dict[str, type[BaseModel]] = {**_kinds(Asking), **_kinds(Scorer), **_kinds(Examples)}
TYPES: dict[str, type[BaseModel]] = {**KINDS, "sampling": Sampling}
