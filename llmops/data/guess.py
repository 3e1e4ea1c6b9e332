"""What the columns of a file are: by their names and by what stands in them, with the reason said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from llmops.core.errors import RequestError
from llmops.core.sources import (
    Alpaca,
    Conversation,
    Labelled,
    PlainText,
    Preference,
    PromptReply,
    Rated,
    Shape,
    ShareGPT,
    Thumbs,
)
from llmops.data.columns import (
    BETTER_NAMES,
    CONTEXT_NAMES,
    INPUT_NAMES,
    LABEL_NAMES,
    MOST_LABELS,
    NUMBER_NAMES,
    PROMPT_NAMES,
    REPLY_NAMES,
    TEXT_NAMES,
    THUMB_NAMES,
    WORSE_NAMES,
    Column,
    as_columns,
    opened,
)
from llmops.data.readers import columns_of
from llmops.data.record import Record
from llmops.data.shapes import THUMBS
from llmops.data.turns import SHAREGPT

MOST_SLICES = 20

Chosen = Mapping[str, str]


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


def guess(name: str, records: Sequence[Record], chosen: Chosen) -> Guess:
    """The shape of a file's rows. `chosen` maps text, label, prompt or reply to the column that a person named.

    Raises `RequestError` naming the columns and the flags to choose with, where two answers are as good.
    """
    columns = as_columns(opened(columns_of(records), records), records)
    names = [column.name for column in columns]
    for flag, column in chosen.items():
        if column not in names:
            raise RequestError(f"{name} has no column {column!r} (--{flag})", f"its columns are: {', '.join(names)}")
    if {"prompt", "reply"} & set(chosen) and {"text", "label", "number"} & set(chosen):
        raise RequestError(
            "a file is labelled texts, or prompts with replies", "give --text and --label, or --prompt and --reply"
        )
    if {"prompt", "reply"} & set(chosen):
        return _as_said(columns, chosen)
    for recognise in TALKS if not chosen else ():
        if found := recognise(columns, name):
            return _with_system(found, columns)
    return _of_a_text(columns, chosen, name)


def _as_said(columns: Sequence[Column], chosen: Chosen) -> Guess:
    if set(chosen) != {"prompt", "reply"}:
        missing = ({"prompt", "reply"} - set(chosen)).pop()
        raise RequestError(f"--{missing} is not given", f"give --prompt and --reply both; columns: {_names(columns)}")
    shape = PromptReply(prompt=chosen["prompt"], reply=chosen["reply"])
    found = Guess(shape, (f"{shape.prompt!r} is the prompt and {shape.reply!r} the reply, as you said",))
    return _with_system(found, columns)


def _pairs(columns: Sequence[Column], name: str) -> Guess | None:
    """A better and a worse reply, by their names."""
    better = [column for column in columns if column.named(BETTER_NAMES)]
    worse = [column for column in columns if column.named(WORSE_NAMES)]
    if len(better) != 1 or len(worse) != 1:
        return None
    why = f"{better[0].name!r} and {worse[0].name!r} are named like a better and a worse reply: preferences"
    others = [column for column in columns if column not in (better[0], worse[0])]
    prompts = [column for column in others if column.turns] or [
        column for column in others if column.named(PROMPT_NAMES) and column.is_words
    ]
    if len(prompts) > 1 or (not prompts and better[0].turns is None):
        raise RequestError(
            f"{name}: it is not clear to which prompt {better[0].name!r} and {worse[0].name!r} answer",
            "put the prompt into one column named 'prompt', or write both replies as lists of {role, content}",
        )
    shape = Preference(chosen=better[0].name, rejected=worse[0].name)
    if not prompts:
        return Guess(shape, (why, "both hold whole conversations, so the prompt is what they share"))
    return Guess(shape.replace(prompt=prompts[0].name), (why, f"{prompts[0].name!r} is the prompt"))


def _thumbs(columns: Sequence[Column], name: str) -> Guess | None:
    """Replies with a thumb: a conversation, or a prompt with its reply, and a column of two opposite words."""
    signs = [column for column in columns if column.named(THUMB_NAMES) and _is_thumb(column)]
    if len(signs) != 1:
        return None
    thumb = signs[0]
    others = [column for column in columns if column is not thumb]
    why = f"{thumb.name!r} holds only {' and '.join(sorted(thumb.counts))}: thumbs for the replies"
    talks = [column for column in others if column.turns and not column.named(REPLY_NAMES)]
    if len(talks) == 1 and not _replies(others):
        shape = Thumbs(prompt=talks[0].name, reply=talks[0].name, thumb=thumb.name)
        return Guess(shape, (f"{talks[0].name!r} holds conversations that end with the reply", why))
    prompts, replies = talks or _prompts(others), [column for column in _replies(others) if not column.is_label]
    if len(prompts) != 1 or len(replies) != 1:
        return None
    shape = Thumbs(prompt=prompts[0].name, reply=replies[0].name, thumb=thumb.name)
    return Guess(shape, (f"{shape.prompt!r} is the prompt and {shape.reply!r} the reply, by their names", why))


def _is_thumb(column: Column) -> bool:
    return 1 <= len(column.counts) <= 2 and all(value.casefold() in THUMBS for value in column.counts)


def _conversations(columns: Sequence[Column], name: str) -> Guess | None:
    talks = [column for column in columns if column.turns]
    if _prompts(talks) and _replies(columns):
        return None  # prompts and replies, each a list of turns
    whole = [column for column in talks if not column.named(PROMPT_NAMES)] or talks
    if not whole:
        return None
    if len(whole) > 1:
        raise RequestError(
            f"{name}: columns {' and '.join(repr(column.name) for column in whole[:2])} both hold conversations",
            "leave one of them in the file, or write a recipe whose source names one",
        )
    column, notation = whole[0], whole[0].turns
    assert notation is not None
    why = f"{column.name!r} holds lists of {notation.described()}: conversations"
    if notation is SHAREGPT:
        return Guess(ShareGPT(conversations=column.name), (why, "this notation is ShareGPT's"))
    return Guess(Conversation(messages=column.name), (why,))


def _single_messages(columns: Sequence[Column], name: str) -> Guess | None:
    """Raises `RequestError` where each row is one message: no row of such a file has a reply to learn."""
    if any(column.named(LABEL_NAMES) and column.is_label for column in columns):
        return None
    for column in columns:
        if column.is_speaker and any(other.is_text for other in columns if other is not column):
            raise RequestError(
                f"{name}: {column.name!r} says who speaks, so each row is one message of a conversation",
                "write one row a conversation, with a column 'messages' that lists {role, content}; "
                f"or give --text for running text, with --label {column.name} to tell the speakers apart",
            )
    return None


def _alpaca(columns: Sequence[Column], name: str) -> Guess | None:
    """An instruction, an input to it, an output: by their names."""
    inputs = [column for column in columns if column.named(INPUT_NAMES)]
    prompts = [column for column in _prompts(columns) if column not in inputs]
    replies = [column for column in _replies(columns) if not column.is_label]
    if len(prompts) != 1 or len(inputs) != 1 or len(replies) != 1:
        return None
    shape = Alpaca(instruction=prompts[0].name, input=inputs[0].name, output=replies[0].name)
    why = f"{shape.instruction!r}, {shape.input!r} and {shape.output!r} are named like instruction, input and output"
    return Guess(shape, (f"{why} (Alpaca); the input goes on the line below its instruction",))


def _prompt_and_reply(columns: Sequence[Column], name: str) -> Guess | None:
    """Prompts and replies where the names say so and the replies are no labels; None where they are not."""
    prompts, replies = _prompts(columns), [column for column in _replies(columns) if not column.is_label]
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


# Rows in which somebody is answered, the most telling signs first.
TALKS: tuple[Callable[[Sequence[Column], str], Guess | None], ...] = (
    _pairs,
    _thumbs,
    _conversations,
    _single_messages,
    _alpaca,
    _prompt_and_reply,
)


def _prompts(columns: Sequence[Column]) -> list[Column]:
    return [column for column in columns if column.named(PROMPT_NAMES) and column.is_words]


def _replies(columns: Sequence[Column]) -> list[Column]:
    return [column for column in columns if column.named(REPLY_NAMES) and column.is_words]


def _with_system(found: Guess, columns: Sequence[Column]) -> Guess:
    """The guess with the column of system prompts, where there is one."""
    held = [
        column
        for column in columns
        if CONTEXT_NAMES.get(column.name.strip().lower()) == "system prompts" and column.filled
    ]
    if not held or not hasattr(found.shape, "system"):
        return found
    return Guess(found.shape.replace(system=held[0].name), (*found.why, f"{held[0].name!r} holds the system prompts"))


def _of_a_text(columns: Sequence[Column], chosen: Chosen, name: str) -> Guess:
    """Texts with a label, with a number, or by themselves."""
    if "number" in chosen:
        return _rated(columns, chosen, name, next(column for column in columns if column.name == chosen["number"]))
    if "label" not in chosen:
        others = [column for column in columns if column.name != chosen.get("text")]
        labels = [column for column in others if column.is_label and not column.named(NUMBER_NAMES)]
        numbers = [column for column in others if column.named(NUMBER_NAMES) and column.is_number]
        if not any(column.named(LABEL_NAMES) for column in labels) and len(numbers) == 1:
            return _rated(columns, chosen, name, numbers[0])
        numbers = [column for column in others if column.is_number and any("." in value for value in column.counts)]
        candidates = [column for column in others if column.is_label]
        texts = [column for column in columns if column.is_text]
        if not candidates and numbers and "text" not in chosen:
            doubt = "no column looks like a label (a few short values that come again)"
            raise _unclear(name, columns, doubt, "--number for a number to predict, --text alone for running text")
        if not candidates and (len(texts) == 1 or "text" in chosen):
            text = _the_text(columns, chosen, name)
            if "text" not in chosen:
                _refuse_false_label([column for column in columns if column.name != text.column], name)
            why = "no column holds labels, numbers or replies: running text, to go on with pretraining"
            return Guess(PlainText(text=text.column), (text.why, why))
    label, why_label = _label(columns, chosen, name)
    text = _the_text([column for column in columns if column.name != label], chosen, name)
    if text.column == label:
        raise RequestError(f"{text.column!r} cannot be text and label", f"choose two of: {_names(columns)}")
    return Guess(Labelled(text=text.column, label=label), (text.why, why_label))


def _refuse_false_label(columns: Sequence[Column], name: str) -> None:
    """Raise `RequestError` where a column is named like a label, so that it is not left out without a word."""
    for column in columns:
        if column.filled and column.named(LABEL_NAMES):
            raise RequestError(
                f"{name}: {column.described()} is named like a label, and cannot be one",
                f"a label has from 2 to {MOST_LABELS} short values that come again: bring such rows, "
                "or give --text for running text without it",
            )


def _rated(columns: Sequence[Column], chosen: Chosen, name: str, number: Column) -> Guess:
    text = _the_text([column for column in columns if column is not number], chosen, name)
    comma = any("," in value for value in number.counts) and not any("." in value for value in number.counts)
    if not number.is_number:
        raise RequestError(f"{name}: {number.described()} holds more than numbers", "name another column with --number")
    why = f"{number.described()} is named like a number, and is one: to be predicted (--label {number.name}: as labels)"
    if "number" in chosen:
        why = f"{number.name!r} is the number to predict, as you said"
    commas = ("its decimals stand behind a comma",) if comma else ()
    shape = Rated(text=text.column, number=number.name, decimal_mark="," if comma else ".")
    return Guess(shape, (text.why, why, *commas))


def _label(columns: Sequence[Column], chosen: Chosen, name: str) -> tuple[str, str]:
    if "label" in chosen:
        column = next(column for column in columns if column.name == chosen["label"])
        if len(column.counts) > MOST_LABELS or len(column.counts) < 2:
            what = f"{name}: {column.described()} cannot be the label"
            raise RequestError(
                what, f"a label has from 2 to {MOST_LABELS} values; for numbers, write a 'cut' in the recipe"
            )
        return column.name, f"{column.name!r} is the label, as you said"
    labels = [column for column in columns if column.is_label and column.name != chosen.get("text")]
    named = [column for column in labels if column.named(LABEL_NAMES)]
    if len(named) == 1:
        return named[0].name, f"{named[0].described()} is named like a label and has few values"
    if len(labels) == 1:
        return labels[0].name, f"{labels[0].described()} is the only column of a few short values: the label"
    if labels:
        raise _unclear(name, columns, "which column is the label", "--label")
    doubt = "no column looks like a label (a few short values that come again)"
    raise _unclear(name, columns, doubt, "--text and --label, or --prompt and --reply")


def _the_text(columns: Sequence[Column], chosen: Chosen, name: str) -> TextGuess:
    if "text" in chosen:
        return TextGuess(chosen["text"], f"{chosen['text']!r} is the text, as you said")
    return _text(columns, name, "--text")


def _text(columns: Sequence[Column], name: str, flag: str) -> TextGuess:
    texts = [column for column in columns if column.is_text]
    named = [column for column in texts if column.named(TEXT_NAMES)]
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
