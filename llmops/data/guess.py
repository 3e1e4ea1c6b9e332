"""What the columns of a file are: by their names and by what stands in them, with the reason said."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from llmops.core.errors import RequestError
from llmops.core.sources import Conversation, Labelled, PromptReply, Shape
from llmops.data.cells import Unfit, cell_text
from llmops.data.readers import columns_of
from llmops.data.record import Record
from llmops.data.turns import MESSAGES, conversation

TEXT_NAMES = ("text", "sentence", "review", "comment", "tweet", "content", "body", "message", "document", "utterance")
LABEL_NAMES = ("label", "labels", "class", "category", "sentiment", "target", "intent", "topic", "tag", "y")
PROMPT_NAMES = ("prompt", "instruction", "question", "input", "query", "user", "request")
REPLY_NAMES = ("reply", "response", "answer", "output", "completion", "assistant", "target")
MOST_LABELS = 50
MOST_SLICES = 20
LONGEST_LABEL = 60
NUMBER = re.compile(r"\s*[+-]?(\d+([.,]\d*)*|\.\d+)([eE][+-]?\d+)?\s*")


@dataclass(frozen=True)
class Column:
    """A column and its cells as text."""

    name: str
    cells: tuple[str, ...]

    @cached_property
    def filled(self) -> list[str]:
        return [cell.strip() for cell in self.cells if cell.strip()]

    @cached_property
    def counts(self) -> Counter[str]:
        return Counter(self.filled)

    @property
    def simple_name(self) -> str:
        return self.name.strip().lower()

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
        return self.words >= 3 or self.simple_name in (*TEXT_NAMES, *PROMPT_NAMES, *REPLY_NAMES)

    @property
    def is_label(self) -> bool:
        """A few short values that come again."""
        few = 2 <= len(self.counts) <= MOST_LABELS and len(self.counts) * 2 <= len(self.filled)
        return few and max(map(len, self.counts)) <= LONGEST_LABEL

    def described(self) -> str:
        values = len(self.counts)
        return f"{self.name!r} ({values:,} different values of {len(self.filled):,}, {self.words:.1f} words each)"


@dataclass(frozen=True)
class Guess:
    """What a file holds, and why that was thought."""

    shape: Shape
    why: tuple[str, ...]


@dataclass(frozen=True)
class TextGuess:
    """The column that holds the texts, and why."""

    column: str
    why: str


def guess(name: str, records: Sequence[Record], chosen: Mapping[str, str]) -> Guess:
    """The shape of a file's rows. `chosen` maps text, label, prompt or reply to the column that a person named.

    Raises `RequestError` naming the columns and the flags to choose with, where two answers are as good.
    """
    names = columns_of(records)
    for flag, column in chosen.items():
        if column not in names:
            raise RequestError(f"{name} has no column {column!r} (--{flag})", f"its columns are: {', '.join(names)}")
    if {"prompt", "reply"} & set(chosen) and {"text", "label"} & set(chosen):
        raise RequestError(
            "a file is labelled texts, or prompts with replies", "give --text and --label, or --prompt and --reply"
        )
    if not chosen:
        for column in names:
            if holds_conversations(column, records):
                why = f"{column!r} holds lists of messages with role and content: conversations"
                return Guess(Conversation(messages=column), (why,))
    columns = as_columns(names, records)
    if not {"text", "label"} & set(chosen):
        pair = _prompt_and_reply(columns, chosen, name)
        if pair:
            return pair
    return _labelled(columns, chosen, name)


def holds_conversations(column: str, records: Sequence[Record]) -> bool:
    """Whether nearly every cell of a column is a conversation."""
    cells = [record.cells[column] for record in records[:200] if record.cells and record.cells.get(column)]
    good = 0
    for cell in cells:
        if isinstance(cell, list) or (isinstance(cell, str) and cell.lstrip().startswith("[")):
            try:
                conversation(cell, MESSAGES)
                good += 1
            except Unfit:
                continue
    return good > 0 and good * 10 >= len(cells) * 9


def as_columns(names: Sequence[str], records: Sequence[Record]) -> list[Column]:
    """The columns of all readable rows, cells as text; a cell that is a list or an object as its JSON."""

    def text(value: object) -> str:
        try:
            return cell_text(value)
        except Unfit:
            return json.dumps(value, default=str)

    rows = [record.cells for record in records if record.cells is not None]
    return [Column(name, tuple(text(row.get(name)) for row in rows)) for name in names]


def _prompt_and_reply(columns: Sequence[Column], chosen: Mapping[str, str], name: str) -> Guess | None:
    """Prompts and replies where the names say so and the replies are no labels; None where they are not."""
    if chosen and set(chosen) != {"prompt", "reply"}:
        missing = ({"prompt", "reply"} - set(chosen)).pop()
        raise RequestError(f"--{missing} is not given", f"give --prompt and --reply both; columns: {_names(columns)}")
    if chosen:
        shape = PromptReply(prompt=chosen["prompt"], reply=chosen["reply"])
        return Guess(shape, (f"{shape.prompt!r} is the prompt and {shape.reply!r} the reply, as you said",))
    prompts = [column for column in columns if column.simple_name in PROMPT_NAMES and column.is_words]
    replies = [column for column in columns if column.simple_name in REPLY_NAMES and column.is_words]
    replies = [column for column in replies if not column.is_label]
    if not prompts or not replies:
        return None
    if len(prompts) > 1 or len(replies) > 1:
        raise _unclear(name, columns, "which column is the prompt and which the reply", "--prompt and --reply")
    prompt, reply = prompts[0], replies[0]
    why = (
        f"{prompt.described()} is named like a prompt",
        f"{reply.described()} is named like a reply, and its values are too many to be labels",
    )
    return Guess(PromptReply(prompt=prompt.name, reply=reply.name), why)


def _labelled(columns: Sequence[Column], chosen: Mapping[str, str], name: str) -> Guess:
    label, why_label = _label(columns, chosen, name)
    others = [column for column in columns if column.name != label]
    if "text" in chosen:
        text, why_text = chosen["text"], f"{chosen['text']!r} is the text, as you said"
        if text == label:
            raise RequestError(f"{text!r} cannot be text and label", f"choose two of: {_names(columns)}")
    else:
        found = _text(others, name, "--text")
        text, why_text = found.column, found.why
    return Guess(Labelled(text=text, label=label), (why_text, why_label))


def _label(columns: Sequence[Column], chosen: Mapping[str, str], name: str) -> tuple[str, str]:
    if "label" in chosen:
        column = next(column for column in columns if column.name == chosen["label"])
        if len(column.counts) > MOST_LABELS or len(column.counts) < 2:
            what = f"{name}: {column.described()} cannot be the label"
            raise RequestError(
                what, f"a label has from 2 to {MOST_LABELS} values; for numbers, write a 'cut' in the recipe"
            )
        return column.name, f"{column.name!r} is the label, as you said"
    labels = [column for column in columns if column.is_label and column.name != chosen.get("text")]
    named = [column for column in labels if column.simple_name in LABEL_NAMES]
    if len(named) == 1:
        return named[0].name, f"{named[0].described()} is named like a label and has few values"
    if len(labels) == 1:
        return labels[0].name, f"{labels[0].described()} is the only column of a few short values: the label"
    if labels:
        raise _unclear(name, columns, "which column is the label", "--label")
    doubt = "no column looks like a label (a few short values that come again)"
    raise _unclear(name, columns, doubt, "--text and --label, or --prompt and --reply")


def _text(columns: Sequence[Column], name: str, flag: str) -> TextGuess:
    texts = [column for column in columns if column.is_text]
    named = [column for column in texts if column.simple_name in TEXT_NAMES]
    if len(named) == 1:
        return TextGuess(named[0].name, f"{named[0].described()} is named like a text and reads like one")
    if len(texts) == 1:
        return TextGuess(texts[0].name, f"{texts[0].described()} is the only column that reads like a text")
    left = [column for column in columns if column.filled and not column.is_number]
    if not texts and len(left) == 1:
        return TextGuess(left[0].name, f"{left[0].described()} is the only column left that is not a number")
    raise _unclear(name, columns, "which column is the text", flag)


def guess_text(name: str, rows: Sequence[Mapping[str, str]], flag: str) -> TextGuess:
    """The column of a table that holds the texts; `RequestError` naming `flag` where that is unclear."""
    return _text([Column(column, tuple(row[column] for row in rows)) for column in rows[0]], name, flag)


def _unclear(name: str, columns: Sequence[Column], doubt: str, flags: str) -> RequestError:
    return RequestError(
        f"{name}: {doubt}" if doubt.startswith("no ") else f"{name}: it is not clear {doubt}",
        f"choose with {flags}; columns: {', '.join(column.described() for column in columns[:12])}",
    )


def _names(columns: Sequence[Column]) -> str:
    return ", ".join(column.name for column in columns)


def slices(columns: Sequence[Column], used: Sequence[str]) -> tuple[str, ...]:
    """Columns beside the used ones with a few short values: worth reporting by."""
    others = [column for column in columns if column.name not in used and column.is_label]
    return tuple(column.name for column in others if len(column.counts) <= MOST_SLICES and column.words <= 4)
