"""Scorers of structured answers: `json`, and `schema`, which takes a JSON schema and looks at nothing outside it."""

from __future__ import annotations

import json as reader
from typing import Any

import re2

from llmops.core.errors import RequestError
from llmops.core.scorers import Json, Schema
from llmops.core.suites import Question
from llmops.evals.scorers.mark import Marked, Marker, Tools, Unmarked, each, right

# What a JSON schema can ask for (draft 2020-12). Without one of them any answer is right.
KEYWORDS = frozenset(
    {"$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "not", "if", "dependentSchemas", "prefixItems", "items"}
    | {"contains", "properties", "patternProperties", "additionalProperties", "propertyNames", "unevaluatedItems"}
    | {"unevaluatedProperties", "type", "enum", "const", "multipleOf", "maximum", "exclusiveMaximum", "minimum"}
    | {"exclusiveMinimum", "maxLength", "minLength", "pattern", "maxItems", "minItems", "uniqueItems", "maxContains"}
    | {"minContains", "maxProperties", "minProperties", "required", "dependentRequired", "format"}
)
FENCE = re2.compile(r"(?s)^\s*```(?:json|JSON)?[ \t]*\n(.*?)\n?[ \t]*```\s*$")
DEEPEST = 64


class NoJson(ValueError):
    """This text is no JSON document."""


def parse(text: str, around: str = "nothing") -> Any:
    """The document in `text`. Raises `NoJson`: also for NaN, for a key that comes twice, and below 64 levels."""
    if around == "fence" and (hit := FENCE.search(text)):
        text = hit[1]
    try:
        document = reader.loads(text, parse_constant=_refuse, object_pairs_hook=_object, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise NoJson(str(error) or "too deep") from error
    if depth(document) > DEEPEST:
        raise NoJson(f"more than {DEEPEST} levels")
    return document


def _refuse(word: str) -> Any:
    raise NoJson(f"{word} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise NoJson(f"{text} is too large")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NoJson("a key comes twice")
    return found


def depth(document: Any) -> int:
    """How many levels lie within each other; no recursion, so that no document is too deep to look at."""
    deepest, waiting = 0, [(document, 1)]
    while waiting:
        one, level = waiting.pop()
        deepest = max(deepest, level)
        inside = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        waiting += [(part, level + 1) for part in inside]
    return deepest


def json(knobs: Json, tools: Tools) -> Marker:
    """1 where the answer is a JSON document, or also the expected one."""

    def mark(answer: str, question: Question) -> Marked:
        try:
            document = parse(answer, knobs.around)
        except NoJson as error:
            return right(False, scorer_read=f"no JSON: {error}"[:500])
        if knobs.wants == "any":
            return right(True)
        try:
            wanted = [parse(text) for text in question.expected]
        except NoJson as error:
            raise Unmarked(f"the expected answer is no JSON: {error}") from error
        return right(any(_spelt(document) == _spelt(one) for one in wanted))

    return each(mark)


def _spelt(document: Any) -> str:
    """One spelling for one document: 1 and 1.0 are one number, true and 1 are not."""
    return reader.dumps(_plain(document), sort_keys=True)


def _plain(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: _plain(value) for key, value in document.items()}
    if isinstance(document, list):
        return [_plain(value) for value in document]
    whole = isinstance(document, float) and document.is_integer()
    return int(document) if whole else document


def schema(knobs: Schema, tools: Tools) -> Marker:
    """1 where the answer is a JSON document that the schema takes."""
    validator = validator_of(knobs.wanted)

    def mark(answer: str, question: Question) -> Marked:
        try:
            document = parse(answer, knobs.around)
        except NoJson as error:
            return right(False, scorer_read=f"no JSON: {error}"[:500])
        fault = next(iter(validator.iter_errors(document)), None)
        where = ".".join(map(str, fault.instance_path)) if fault else ""
        return right(fault is None, **({"scorer_read": f"{where or 'it'}: {fault.message}"[:500]} if fault else {}))

    return each(mark)


def _some(wanted: dict[str, Any]) -> str:
    return f"it holds {', '.join(map(repr, list(wanted)[:5]))}" if wanted else "it is empty"


def validator_of(wanted: dict[str, Any]) -> Any:
    """A validator for a schema that holds all it needs. Raises `RequestError` for any other.

    Patterns are matched in linear time, formats are checked, and an unknown one is an error. Nothing is read that the
    schema refers to outside itself: no address, and no file either.
    """
    import jsonschema_rs

    try:
        made = jsonschema_rs.validator_for(
            wanted,
            validate_formats=True,
            ignore_unknown_formats=False,
            retriever=_outside,
            pattern_options=jsonschema_rs.RegexOptions(),
        )
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise RequestError(
            f"this JSON schema cannot be used: {str(error).partition(chr(10))[0]}",
            "put what it needs under $defs; take known formats, and patterns without look-around",
        ) from error
    if not KEYWORDS & wanted.keys():
        raise RequestError(
            f"this is no JSON schema, as any answer would do: nothing in it asks for anything ({_some(wanted)})",
            'say what a right answer is: {"type": "object", "properties": {...}, "required": [...]}',
        )
    return made


def _outside(address: str) -> Any:
    """What the schema refers to outside itself: never fetched."""
    raise ValueError(f"it refers to {address}")
