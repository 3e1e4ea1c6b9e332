"""`Constraint`: what an answer has to keep to: a JSON schema or a regular expression, as a grammar and a check.

llama.cpp holds the answer to it token by token (through llguidance, https://github.com/guidance-ai/llguidance). What it
cannot follow it leaves out and still answers 200, unconstrained. So a schema may only say what is in `KEYWORDS`, and a
complete answer is checked before it is called one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llmops.core.patterns import linear
from llmops.serving.requests import PlainFormat, RegexFormat, ResponseFormat, SchemaFormat
from llmops.serving.wire import ApiError

Json = dict[str, Any]
# What the engine keeps to. With `uniqueItems`, `not`, `if`, `format` or an unknown type it answered freely.
KEYWORDS = {
    *("type", "enum", "const", "anyOf", "$ref", "$defs", "$schema", "$id"),
    *("properties", "required", "additionalProperties", "items", "minItems", "maxItems"),
    *("minLength", "maxLength", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("title", "description", "default", "examples"),
}
TYPES = frozenset(["object", "array", "string", "number", "integer", "boolean", "null"])
# Under these keys stand names of a person's own, not keywords.
NAMED = ("properties", "$defs")
NESTED = ("items", "additionalProperties")
MOST_BYTES = 65_536
MOST_DEPTH = 24
# No white space between the parts: a small model that may add some adds a lot.
COMPACT = {"whitespace_flexible": False}
# What looks around itself, which an automaton cannot; anchors, which are there anyway; and what a class is not.
LOOKS_AROUND = re.compile(r"\\[bBAzZGDWS]|\(\?[=!<]|\\[1-9]|\(\?P[=>]")
# A slash that is not escaped yet ends a pattern in the engine's grammar.
SLASH = re.compile(r"(?<!\\)((?:\\\\)*)/")
PIECE = re.compile(r"\\.|[\[\]]", re.DOTALL)
CLASSES = {"d": "0-9", "w": "0-9A-Za-z_", "s": r"\t\n\f\r "}


@dataclass(frozen=True)
class Constraint:
    """`grammar` is what llama.cpp is told, `asked` what an upstream is; `fault` says what is wrong with a text."""

    grammar: str
    asked: Json
    fault: Callable[[str], str | None]


def constraint_of(asked: ResponseFormat | None) -> Constraint | None:
    """What `response_format` asks for; None where any text will do. Raises `ApiError` 400 for what cannot be."""
    if asked is None or (isinstance(asked, PlainFormat) and asked.type == "text"):
        return None
    if isinstance(asked, RegexFormat):
        return _pattern(asked.pattern)
    schema = asked.json_schema.schema_ if isinstance(asked, SchemaFormat) else {"type": "object"}
    return Constraint(json_grammar(schema), asked.model_dump(by_alias=True, exclude_none=True), json_fault(schema))


def json_grammar(schema: Json) -> str:
    """llama.cpp's grammar for JSON that a checked schema accepts."""
    return f"%llguidance {{}}\nstart: {json_rule(schema)}"


def json_rule(schema: Json) -> str:
    """The same as a part of a grammar. Raises `ApiError` 400 where the schema says what is not in `KEYWORDS`."""
    import jsonschema_rs

    if len(json.dumps(schema)) > MOST_BYTES:
        raise _refused(f"the schema has more than {MOST_BYTES:,} bytes")
    for fault in _faults(schema, "schema", 0):
        raise _refused(fault)
    try:
        jsonschema_rs.validator_for(schema)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise _refused(str(error).splitlines()[0]) from error

    def spelt(part: Json) -> Json:
        pattern = part.get("pattern")
        return {**part, "pattern": _in_ascii(pattern)} if isinstance(pattern, str) else part

    told = json.loads(json.dumps({**schema, "x-guidance": COMPACT}), object_hook=spelt)
    return f"%json {json.dumps(told)}"


def json_fault(schema: Json) -> Callable[[str], str | None]:
    """What is wrong with a text as JSON of a schema."""
    import jsonschema_rs

    valid = jsonschema_rs.validator_for(schema)

    def fault(text: str) -> str | None:
        try:
            value = json.loads(text)
        except ValueError as error:
            return f"no JSON: {error}"
        found = next(iter(valid.iter_errors(value)), None)
        return None if found is None else str(found.message)

    return fault


def _faults(schema: Any, place: str, depth: int) -> Iterator[str]:
    """Everything in a schema that the engine would leave out."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        yield f"{place} is no schema"
        return
    if depth > MOST_DEPTH:
        yield f"{place} is nested more than {MOST_DEPTH} deep"
        return
    for key in sorted(set(schema) - KEYWORDS):
        yield f"{place}: the keyword {key!r} is not supported"
    types = schema.get("type", ())
    for kind in [types] if isinstance(types, str) else types:
        if kind not in TYPES:
            yield f"{place}: there is no type {kind!r}"
    if not str(schema.get("$ref", "#")).startswith("#"):
        yield f"{place}: only a $ref within the schema is followed"
    if fault := _unmatchable(schema.get("pattern", "")):
        yield f"{place}: {fault}"
    for key, inner in _inner(schema):
        yield from _faults(inner, f"{place}.{key}", depth + 1)


def _inner(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key in NAMED:
        if isinstance(schema.get(key), Mapping):
            yield from schema[key].items()
    yield from ((key, schema[key]) for key in NESTED if key in schema)
    if isinstance(schema.get("anyOf"), list):
        yield from ((f"anyOf.{number}", one) for number, one in enumerate(schema["anyOf"]))


def _pattern(pattern: str) -> Constraint:
    if why := _unmatchable(pattern):
        raise _refused(why)
    bare = pattern.removeprefix("^")
    if bare.endswith("$") and not bare.endswith("\\$"):
        bare = bare[:-1]
    compiled = linear(bare)
    spelt = SLASH.sub(r"\1\/", _in_ascii(bare)).replace("\n", "\\n").replace("\r", "\\r")

    def fault(text: str) -> str | None:
        return None if compiled.fullmatch(text) else "it does not match the pattern"

    return Constraint(f"%llguidance {{}}\nstart: /{spelt}/", {"type": "regex", "pattern": pattern}, fault)


def _in_ascii(pattern: str) -> str:
    """The pattern with its classes spelt out: `\\d` is ten digits to RE2, and every script's digits to the engine."""
    inside = False

    def spell(found: re.Match[str]) -> str:
        nonlocal inside
        piece = found.group()
        if piece in ("[", "]"):
            inside = piece == "["
        if piece[-1] not in CLASSES or len(piece) == 1:
            return piece
        return CLASSES[piece[-1]] if inside else f"[{CLASSES[piece[-1]]}]"

    return PIECE.sub(spell, pattern)


def _unmatchable(pattern: Any) -> str | None:
    """Why a pattern cannot be held to; None where it can. RE2 reads it, in linear time whatever the text."""
    if LOOKS_AROUND.search(str(pattern)):
        return f"the pattern {str(pattern)[:80]!r} uses what is not supported (look-around, \\b, \\D, \\1)"
    try:
        linear(str(pattern))
    except ValueError as error:
        return f"the pattern {str(pattern)[:80]!r} cannot be read: {str(error)[:120]}"
    return None


def _refused(why: str) -> ApiError:
    return ApiError(400, "unsupported_response_format", f"response_format: {why}.", "response_format")
