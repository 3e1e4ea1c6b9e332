"""YAML as a recipe needs it: scalars stay as written, every value knows its line, nothing can blow up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from llmops.core.errors import RequestError

LARGEST_BYTES = 2**20
DEEPEST = 40
MOST_NODES = 20_000
NULLS = ("", "~", "null", "Null", "NULL")
FIX = "mend the YAML there: lists, mappings and plain values are all that a recipe needs"


@dataclass(frozen=True)
class Node:
    """A value of the document, the line it stands on, and how many nodes it is, aliases counted in full."""

    value: str | list[Node] | dict[str, Node] | None
    line: int
    size: int = 1

    def plain(self) -> Any:
        """The value as Python data: lists, dictionaries, texts and None. A field's type decides what a text means."""
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return self.value


def parse_yaml(text: str, name: str) -> Node:
    """The one document in `text`. Raises `RequestError` naming `name`, line and column of what is wrong.

    Aliases are allowed, but count in full; tags and repeated keys are refused. Numbers, dates and `yes` stay text.
    """
    if len(text) > LARGEST_BYTES or len(text.encode("utf-8", "replace")) > LARGEST_BYTES:
        raise RequestError(
            f"{name} is larger than 1 MiB", "a recipe is some lines long; put rows into a file of their own"
        )
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise RequestError(f"{name} holds half a character (a lone surrogate)", "write it again in UTF-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Document(yaml.parse(text, Loader=loader), name).read()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
        raise RequestError(f"{name}{where}: broken YAML: {problem}", FIX) from error


class _Document:
    """Builds nodes from the stream of events, so that depth and size are bounded before anything grows."""

    def __init__(self, events: Iterator[yaml.Event], name: str) -> None:
        self.events, self.name = events, name
        self.anchors: dict[str, Node] = {}
        self.nodes = 0

    def read(self) -> Node:
        root = None
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise self.wrong(event, "a second document starts here")
                root = self.node(next(self.events), 1)
        if root is None:
            raise RequestError(f"{self.name} is empty", "'llmops new FILE' writes a recipe for your rows")
        return root

    def wrong(self, event: yaml.Event, what: str) -> RequestError:
        mark = event.start_mark
        return RequestError(f"{self.name}, line {mark.line + 1}, column {mark.column + 1}: {what}", FIX)

    def node(self, event: yaml.Event, depth: int) -> Node:
        line = event.start_mark.line + 1
        if depth > DEEPEST:
            raise self.wrong(event, f"it is nested deeper than {DEEPEST} levels")
        if isinstance(event, yaml.AliasEvent):
            known = self.anchors.get(event.anchor)
            if known is None:
                raise self.wrong(event, f"alias *{event.anchor} names nothing above it")
            return self.counted(event, Node(known.value, line, known.size))
        if event.tag is not None:
            raise self.wrong(event, f"the tag {event.tag!r} is not used in recipes")
        found = self.counted(event, self.content(event, depth, line))
        if event.anchor:
            self.anchors[event.anchor] = found
        return found

    def counted(self, event: yaml.Event, node: Node) -> Node:
        self.nodes += node.size if isinstance(event, yaml.AliasEvent) else 1
        if self.nodes > MOST_NODES:
            raise self.wrong(event, f"more than {MOST_NODES:,} values, aliases counted in full")
        return node

    def content(self, event: yaml.Event, depth: int, line: int) -> Node:
        if isinstance(event, yaml.ScalarEvent):
            plain_null = event.implicit[0] and event.value in NULLS
            return Node(None if plain_null else event.value, line)
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(inner := next(self.events), yaml.SequenceEndEvent):
                items.append(self.node(inner, depth + 1))
            return Node(items, line, 1 + sum(item.size for item in items))
        return self.mapping(depth, line)

    def mapping(self, depth: int, line: int) -> Node:
        fields: dict[str, Node] = {}
        while not isinstance(key := next(self.events), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent):
                raise self.wrong(key, "a field's name must be plain text")
            if key.value in fields:
                raise self.wrong(key, f"field {key.value!r} stands twice, first on line {fields[key.value].line}")
            value = self.node(next(self.events), depth + 1)
            fields[key.value] = Node(value.value, key.start_mark.line + 1, value.size)
        return Node(fields, line, 1 + sum(node.size for node in fields.values()))
