"""From pydantic's errors to two plain lines: which field, on which line, what was expected, what is nearest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from llmops.core.errors import RequestError
from llmops.core.recipe import Recipe
from llmops.data.yaml_nodes import Node

Loc = tuple[int | str, ...]
Words = Callable[[dict[str, Any]], str]

PATTERNS: dict[str, str] = {
    r"^[a-z][a-z0-9-]{0,62}$": "must be lower-case letters, digits and hyphens, begin with a letter, 63 at most",
    r"^[0-9a-f]{64}$": "must be a sha256: 64 digits and letters from a to f",
}
# What was expected, by the type of pydantic's error; `ctx` is its dictionary of details.
EXPECTED: dict[str, Words] = {
    "missing": lambda ctx: "is missing",
    "int_parsing": lambda ctx: "must be a whole number",
    "int_type": lambda ctx: "must be a whole number",
    "int_from_float": lambda ctx: "must be a whole number",
    "int_parsing_size": lambda ctx: "is too large a number",
    "float_parsing": lambda ctx: "must be a number",
    "float_type": lambda ctx: "must be a number",
    "finite_number": lambda ctx: "must be a finite number",
    "string_type": lambda ctx: "must be text",
    "string_too_short": lambda ctx: "must not be empty",
    "tuple_type": lambda ctx: "must be a list, such as [first, second]",
    "dict_type": lambda ctx: "must be a mapping of names to values",
    "model_type": lambda ctx: "must be a mapping of fields to values",
    "model_attributes_type": lambda ctx: "must be a mapping of fields to values",
    "greater_than": lambda ctx: f"must be more than {ctx['gt']:g}",
    "greater_than_equal": lambda ctx: f"must be at least {ctx['ge']:g}",
    "less_than": lambda ctx: f"must be less than {ctx['lt']:g}",
    "less_than_equal": lambda ctx: f"must be at most {ctx['le']:g}",
    "too_short": lambda ctx: f"needs at least {ctx['min_length']} {'entry' if ctx['min_length'] == 1 else 'entries'}",
    "too_long": lambda ctx: f"may have at most {ctx['max_length']} entries",
    "literal_error": lambda ctx: f"must be {ctx['expected']}",
    "union_tag_invalid": lambda ctx: f"has a kind that is none of {ctx['expected_tags']}",
    "union_tag_not_found": lambda ctx: "needs a field 'kind'",
    "string_pattern_mismatch": lambda ctx: PATTERNS.get(ctx["pattern"], f"must match {ctx['pattern']}"),
}


def in_plain_words(error: ValidationError, name: str, root: Node | None) -> RequestError:
    """The first of the errors, unknown fields before others, with the line of `root` it stands on."""
    order = {"extra_forbidden": 0, "too_short": 2}
    errors = sorted(error.errors(include_url=False), key=lambda item: order.get(item["type"], 1))
    first = errors[0]
    loc, kind = first["loc"], first["type"]
    where = f"{name}, line {line_of(root, loc)}" if root is not None else name
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    if kind == "extra_forbidden":
        parent = dotted(loc[:-1])
        fields = fields_at(loc[:-1])
        what = f"{where}: there is no field {str(loc[-1])!r}" + (f" in {parent}" if parent else " in a recipe")
        near = get_close_matches(str(loc[-1]), fields, 1, 0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return RequestError(what + more, f"{hint}the fields are: {', '.join(fields)}")
    if kind == "value_error":
        what = first["msg"].removeprefix("Value error, ")
        return RequestError(
            f"{where}: {dotted(loc) + ': ' if dotted(loc) else ''}{what}{more}", "change it in the recipe"
        )
    words = EXPECTED[kind](first.get("ctx", {})) if kind in EXPECTED else f"is wrong: {first['msg']}"
    found = "" if kind == "missing" or "tag" in kind or kind == "too_short" else f", not {seen(first['input'])}"
    field = dotted(loc) or "the recipe"
    return RequestError(f"{where}: {field} {words}{found}{more}", fix_for(loc, kind))


def fix_for(loc: Loc, kind: str) -> str:
    """What to do about the field at `loc`: its description, or the fields that its mapping has."""
    fields = fields_at(loc)
    if kind in ("model_type", "model_attributes_type") and fields:
        return f"its fields are: {', '.join(fields)}"
    if "tag" in kind:
        return "write the kind first, and then only the fields that belong to it"
    about = description_of(loc)
    return f"{loc[-1]}: {about}" if about and loc else "change it there; 'llmops new FILE' writes a recipe that works"


def seen(value: Any) -> str:
    """A short rendering of what was found."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list | tuple):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def dotted(loc: Loc) -> str:
    """`task.labels.0`: the path of a field as `--set` takes it, without the names of kinds."""
    return ".".join(str(part) for part, _, is_kind in steps(loc) if not is_kind)


def line_of(root: Node, loc: Loc) -> int:
    """The line of the deepest part of `loc` that stands in the document."""
    node, line = root, root.line
    for part, _, is_kind in steps(loc):
        if is_kind:
            continue
        if isinstance(node.value, dict) and part in node.value:
            node = node.value[str(part)]
        elif isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        else:
            break
        line = node.line
    return line


def steps(loc: Loc) -> Iterator[tuple[int | str, list[Any], bool]]:
    """Each part of a location with the types below it, and whether the part only names the kind of a union."""
    types: list[Any] = [Recipe]
    for part in loc:
        models = [kind for kind in types if isinstance(kind, type) and issubclass(kind, BaseModel)]
        of_kind = [
            model for model in models if "kind" in model.model_fields and model.model_fields["kind"].default == part
        ]
        if of_kind and len(models) > 1:
            types = of_kind
            yield part, types, True
            continue
        below: list[Any] = []
        for model in models:
            for field, info in model.model_fields.items():
                if part in (field, info.alias):
                    below += members(info.annotation)
        for kind in types:
            if get_origin(kind) in (tuple, dict):
                below += members(get_args(kind)[0 if get_origin(kind) is tuple else -1])
        types = below
        yield part, types, False


def members(annotation: Any) -> list[Any]:
    """The types that an annotation allows: unions and annotated types opened, None left out."""
    if hasattr(annotation, "__metadata__"):
        return members(annotation.__origin__)
    if get_origin(annotation) in (tuple, dict) or not get_args(annotation):
        return [] if annotation is type(None) else [annotation]
    return [member for part in get_args(annotation) for member in members(part)]


def types_at(loc: Loc) -> Sequence[Any]:
    types: list[Any] = [Recipe]
    for _, found, _ in steps(loc):
        types = found
    return types


def fields_at(loc: Loc) -> list[str]:
    """The names of the fields at `loc`, as a recipe spells them."""
    models = [kind for kind in types_at(loc) if isinstance(kind, type) and issubclass(kind, BaseModel)]
    names = [info.alias or field for model in models for field, info in model.model_fields.items()]
    return sorted({name for name in names if name != "schema_number"})


def description_of(loc: Loc) -> str:
    """What the field at `loc` is for, in the words of its type."""
    if not loc or not isinstance(loc[-1], str):
        return ""
    for kind in types_at(loc[:-1]):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for field, info in kind.model_fields.items():
                if loc[-1] in (field, info.alias):
                    return info.description or ""
    return ""
