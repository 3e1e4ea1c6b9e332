"""Columns of a file as a guess sees them: their cells as text, how many values, how many words, whose turns."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from llmops.data.cells import Unfit, cell, cell_text, has
from llmops.data.record import Record
from llmops.data.turns import BOTH, Notation, notation_of, turn_list

TEXT_NAMES = ("text", "sentence", "review", "comment", "tweet", "content", "body", "message", "document", "utterance")
LABEL_NAMES = ("label", "labels", "class", "category", "sentiment", "target", "intent", "topic", "tag", "y")
NUMBER_NAMES = ("score", "rating", "stars", "number", "value", "grade", "points", "similarity", "price", "y")
PROMPT_NAMES = ("prompt", "instruction", "question", "input", "query", "user", "request", "prompts", "questions")
REPLY_NAMES = ("reply", "response", "answer", "output", "completion", "assistant", "target", "answers", "responses")
INPUT_NAMES = ("input", "context", "passage", "paragraph")
BETTER_NAMES = ("chosen", "chosen_messages", "chosen_response", "preferred", "better", "response_chosen", "winner")
WORSE_NAMES = (
    "rejected",
    "rejected_messages",
    "rejected_response",
    "dispreferred",
    "worse",
    "response_rejected",
    "loser",
)
THUMB_NAMES = ("label", "thumb", "thumbs", "liked", "feedback", "vote", "kto_tag", "is_good", "good", "desirable")
# What columns by these names hold belongs to the conversation: where nothing reads one, it would be lost in silence.
CONTEXT_NAMES = {
    **dict.fromkeys(("system", "system_prompt", "system_message", "systemprompt", "system prompt"), "system prompts"),
    **dict.fromkeys(("history",), "earlier turns"),
    **dict.fromkeys(("tools", "functions"), "tools that the replies call"),
    **dict.fromkeys(("image", "images", "audio", "audios", "video", "videos"), "pictures, sounds or films"),
}
# Who speaks, where each row is one message of a conversation.
SPEAKER_NAMES = ("role", "from", "speaker", "sender", "author", "author_role")
ASKING = ("user", "human", "prompter", "customer", "client")
ANSWERING = ("assistant", "gpt", "ai", "bot", "chatbot", "model", "agent", "operator", "system", "developer", "tool")
SPEAKERS = frozenset((*ASKING, *ANSWERING))
MOST_LABELS = 50
LONGEST_LABEL = 60
DEEPEST = 8
DATE = re.compile(
    r"(\d{4}[./-]\d{1,2}[./-]\d{1,2}|\d{1,2}[./-]\d{1,2}[./-](\d{4}|\d{2}))([ T]+\d{1,2}:\d{2}.*)?", re.ASCII
)
NUMBER = re.compile(r"\s*[+-]?(\d+([.,]\d*)*|\.\d+)([eE][+-]?\d+)?\s*")


@dataclass(frozen=True)
class Column:
    """A column and its cells as text."""

    name: str
    cells: tuple[str, ...]
    values: tuple[Any, ...] = field(default=(), repr=False)

    @cached_property
    def filled(self) -> list[str]:
        return [cell.strip() for cell in self.cells if cell.strip()]

    @cached_property
    def counts(self) -> Counter[str]:
        return Counter(self.filled)

    def named(self, names: Iterable[str]) -> bool:
        """Whether its name, or a part of its path such as `answers` in `answers.text.0`, is one of `names`."""
        own = self.name.strip().lower()
        return not {own, *own.split(".")}.isdisjoint(names)

    @cached_property
    def turns(self) -> Notation | None:
        """The notation in which nearly every filled cell holds turns."""
        given = [value for value in self.values[:200] if value not in (None, "", [])]
        lists = [turn_list(value) for value in given]
        found = [notation_of(turns[0]) if turns and isinstance(turns[0], dict) else None for turns in lists]
        return next((notation for notation in BOTH if found.count(notation) * 10 >= max(1, len(given)) * 9), None)

    @cached_property
    def words(self) -> float:
        """Mean number of words in a filled cell."""
        return sum(len(cell.split()) for cell in self.filled) / max(1, len(self.filled))

    @property
    def is_number(self) -> bool:
        return bool(self.filled) and all(NUMBER.fullmatch(cell) for cell in self.counts)

    @property
    def is_words(self) -> bool:
        """Something stands in it, and not only numbers."""
        return bool(self.filled) and not self.is_number

    @property
    def is_text(self) -> bool:
        """Mostly different, and of several words each (or named like a text)."""
        if not self.is_words or len(self.counts) * 2 < len(self.filled):
            return False
        return self.words >= 3 or self.named((*TEXT_NAMES, *PROMPT_NAMES, *REPLY_NAMES))

    @property
    def is_label(self) -> bool:
        """A few short values that come again, and no dates."""
        few = 2 <= len(self.counts) <= MOST_LABELS and len(self.counts) * 2 <= len(self.filled)
        return few and max(map(len, self.counts)) <= LONGEST_LABEL and not all(map(DATE.fullmatch, self.counts))

    @property
    def is_speaker(self) -> bool:
        """It says who speaks: named so, and nothing but roles in it."""
        return bool(self.filled) and self.named(SPEAKER_NAMES) and {name.lower() for name in self.counts} <= SPEAKERS

    def described(self) -> str:
        values = len(self.counts)
        return f"{self.name!r} ({values:,} different values of {len(self.filled):,}, {self.words:.1f} words each)"


def as_columns(names: Sequence[str], records: Sequence[Record]) -> list[Column]:
    """The columns of all readable rows, cells as text; a cell that is a list or an object as its JSON."""
    rows = [record.cells for record in records if record.cells is not None]
    return [_column(name, rows) for name in names]


def _column(name: str, rows: Sequence[Mapping[str, Any]]) -> Column:
    values = tuple(_value(row, name) for row in rows)
    return Column(name, tuple(_text(value) for value in values), values)


def _value(row: Mapping[str, Any], name: str) -> Any:
    try:
        return cell(dict(row), name) if has(dict(row), name) else None
    except Unfit:
        return None


def _text(value: object) -> str:
    try:
        return cell_text(value)
    except Unfit:
        return json.dumps(value, default=str)


def opened(names: Sequence[str], records: Sequence[Record]) -> list[str]:
    """The names with every column of objects opened into its fields: `data` into `data.text` and so on.

    A list is opened where it holds one thing, which is what annotation tools write; turns are left as they are.
    """
    found: dict[str, None] = {}
    rows = [record.cells for record in records[:200] if record.cells is not None]
    for name in names:
        for row in rows:
            found.update(dict.fromkeys(_paths(name, row.get(name), 0)))
    return [name for name in found if not any(other.startswith(f"{name}.") for other in found)]


def _paths(name: str, value: Any, depth: int) -> Iterator[str]:
    """The columns that one cell opens into."""
    if isinstance(value, dict) and not notation_of(value) and depth < DEEPEST:
        for key, inner in value.items():
            yield from _paths(f"{name}.{key}", inner, depth + 1)
    elif isinstance(value, list) and len(value) == 1 and not (isinstance(value[0], dict) and notation_of(value[0])):
        yield from _paths(f"{name}.0", value[0], depth + 1)
    elif value is not None or depth == 0:
        yield name
