"""Scorers of structured answers: `json`, and `schema`, which takes a JSON schema and looks at nothing outside it."""

from __future__ import annotations

import json as reader
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import re2

from llmops.core.errors import RequestError
from llmops.core.scorers import Json, Schema
from llmops.core.suites import Question
from llmops.evals.scorers.mark import Marked, Marker, Tools, Unmarked, each, right
from llmops.evals.scorers.texts import compiled

FENCE = re2.compile(r"(?s)^\s*```(?:json|JSON)?[ \t]*\n(.*?)\n?[ \t]*```\s*$")
# What `format` may name: all that jsonschema checks by itself, and date-time by the standard library.
FORMATS = ("date", "date-time", "email", "ipv4", "ipv6", "time", "uuid")
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
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
        return right(fault is None, **({"scorer_read": f"{fault.json_path}: {fault.message}"[:500]} if fault else {}))

    return each(mark)


def validator_of(wanted: dict[str, Any]) -> Any:
    """A validator for a schema that holds all it needs. Raises `RequestError` for any other.

    Patterns are matched by RE2: the ones of `re` can take exponential time on what a model says.
    """
    from jsonschema import FormatChecker, validators
    from jsonschema.exceptions import SchemaError
    from referencing import Registry

    draft = validators.validator_for(wanted, default=None if "$schema" in wanted else validators.Draft202012Validator)
    if draft is None:
        raise RequestError(f"the schema's $schema {wanted['$schema']!r} is not known", "leave it out: 2020-12 is taken")
    try:
        draft.check_schema(wanted)
    except SchemaError as error:
        raise RequestError(
            f"this is no JSON schema: {error.json_path}: {error.message}", "correct the schema"
        ) from error
    found = list(keywords(wanted))
    for keyword, value in found:
        _check_keyword(keyword, value)
    if {"unevaluatedProperties", "patternProperties"} <= {keyword for keyword, _ in found}:
        raise RequestError(
            "unevaluatedProperties beside patternProperties takes time without a bound", "use additionalProperties"
        )
    formats = FormatChecker(formats=[name for name in FORMATS if name in FormatChecker.checkers])
    formats.checks("date-time", raises=ValueError)(_is_moment)
    kind = validators.extend(draft, LINEAR)
    return kind(wanted, registry=Registry(), format_checker=formats)


def keywords(wanted: Any) -> Iterator[tuple[str, Any]]:
    """Every key of a schema, at any depth, with its value."""
    if isinstance(wanted, dict):
        for key, value in wanted.items():
            yield key, value
            yield from keywords(value)
    elif isinstance(wanted, list):
        for value in wanted:
            yield from keywords(value)


def _check_keyword(keyword: str, value: Any) -> None:
    if keyword in REFERENCES and isinstance(value, str) and not value.startswith("#"):
        raise RequestError(f"the schema refers to {value!r}", "put what it needs under $defs and refer to #/$defs/NAME")
    if keyword == "format" and isinstance(value, str) and value not in FORMATS:
        raise RequestError(f"the format {value!r} is not checked by anything", f"take one of: {', '.join(FORMATS)}")
    patterns = [value] if keyword == "pattern" else list(value) if keyword == "patternProperties" else []
    for pattern in patterns:
        if isinstance(pattern, str):
            try:
                compiled(pattern)
            except re2.error as error:
                raise RequestError(
                    f"the schema's pattern {pattern!r} does not compile: {error}",
                    "write it for RE2, without look-around",
                ) from error


def _is_moment(text: object) -> bool:
    """RFC 3339: a date, a time and its offset."""
    if not isinstance(text, str):
        return True
    return "T" in text.upper() and datetime.fromisoformat(text).tzinfo is not None


def _pattern(validator: Any, pattern: str, document: Any, wanted: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if validator.is_type(document, "string") and not compiled(pattern).search(document):
        yield ValidationError(f"{document!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: dict[str, Any], document: Any, wanted: Any) -> Iterator[Any]:
    if not validator.is_type(document, "object"):
        return
    for pattern, part in patterns.items():
        for key, value in document.items():
            if compiled(pattern).search(key):
                yield from validator.descend(value, part, path=key, schema_path=pattern)


def _additional_properties(validator: Any, rule: Any, document: Any, wanted: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if not validator.is_type(document, "object"):
        return
    patterns = [compiled(pattern) for pattern in wanted.get("patternProperties", {})]
    named = wanted.get("properties", {})
    for key, value in document.items():
        if key in named or any(pattern.search(key) for pattern in patterns):
            continue
        if rule is False:
            yield ValidationError(f"{key!r} is not one of its properties")
        else:
            yield from validator.descend(value, rule, path=key)


# The keywords that match patterns, by RE2.
LINEAR = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
}
