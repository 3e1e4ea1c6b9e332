"""From a record's cells to what a row is made of: one function a shape, in the visible table `SHAPES`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from llmops.core.sources import (
    Alpaca,
    Conversation,
    Labelled,
    PlainText,
    Preference,
    PromptReply,
    Rated,
    ShareGPT,
    Thumbs,
)
from llmops.core.tasks import Classify, Rate, Task
from llmops.data.cells import Misfit, Unfit, cell, cell_text, filled, has, optional
from llmops.data.turns import (
    MESSAGES,
    SHAREGPT,
    Notation,
    Turn,
    conversation,
    ended,
    prompt_turns,
    read_turns,
    reply_turns,
)

Cells = dict[str, Any]
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
THUMBS = {
    **dict.fromkeys(("true", "1", "+1", "yes", "up", "good", "like", "liked", "thumbs_up", "👍"), True),
    **dict.fromkeys(("false", "0", "-1", "no", "down", "bad", "dislike", "disliked", "thumbs_down", "👎"), False),
}


class Parts(NamedTuple):
    """What a row is made of, before the task's question or system prompt is put in front. `text` is the bare input."""

    turns: tuple[Turn, ...]
    text: str
    label: str | None = None
    rejected: str | None = None
    liked: bool | None = None


def labelled(shape: Labelled, cells: Cells, task: Task) -> Parts:
    assert isinstance(task, Classify)
    text, label = filled(cells, shape.text), filled(cells, shape.label)
    if shape.cut is not None:
        found = shape.cut.label(number_of(label))
        if found is None:
            raise Unfit("between the cuts")
        label = found
    if label not in task.labels:
        raise Unfit(f"unknown label: {label}")
    return Parts((("user", text), ("assistant", label)), text, label)


def rated(shape: Rated, cells: Cells, task: Task) -> Parts:
    assert isinstance(task, Rate)
    text = filled(cells, shape.text)
    said = spelt(number_of(filled(cells, shape.number), shape.decimal_mark), task)
    return Parts((("user", text), ("assistant", said)), text, said)


def spelt(number: float, task: Rate) -> str:
    """A number as the model says it: as many decimals as the task has, and no minus before zero."""
    said = f"{number:.{task.decimals}f}"
    return said.removeprefix("-") if not float(said) else said


def number_of(text: str, decimal_mark: str = ".") -> float:
    """The number in a cell. Raises `Unfit` for anything else: `1,5` is a number only where the shape says so."""
    plain = text.replace(",", ".") if decimal_mark == "," and "." not in text else text
    number = float(plain) if NUMBER.fullmatch(plain) and (decimal_mark == "." or "." not in text) else math.nan
    if not math.isfinite(number):
        raise Unfit(f"not a number: {text}")
    return number


def prompt_reply(shape: PromptReply, cells: Cells, task: Task) -> Parts:
    return talk(
        _with_system(reply_turns(cell(cells, shape.reply), prompt_turns(cell(cells, shape.prompt))), shape, cells)
    )


def alpaca(shape: Alpaca, cells: Cells, task: Task) -> Parts:
    """An instruction and, on the line below it, its input, as one turn; earlier pairs before it."""
    asked = "\n".join(part for part in (filled(cells, shape.instruction), optional(cells, shape.input)) if part)
    earlier: list[Turn] = []
    for pair in (cell(cells, shape.history) if has(cells, shape.history) else None) or ():
        if not (
            isinstance(pair, list) and len(pair) == 2 and all(isinstance(said, str) and said.strip() for said in pair)
        ):
            raise Misfit(f"no conversation: {shape.history} is no list of [prompt, reply] pairs")
        earlier += [("user", pair[0]), ("assistant", pair[1])]
    turns = (*earlier, ("user", asked), ("assistant", filled(cells, shape.output)))
    return talk(_with_system(turns, shape, cells))


def messages(shape: Conversation, cells: Cells, task: Task) -> Parts:
    return _whole(shape.messages, MESSAGES, shape, cells)


def sharegpt(shape: ShareGPT, cells: Cells, task: Task) -> Parts:
    return _whole(shape.conversations, SHAREGPT, shape, cells)


def _whole(column: str, notation: Notation, shape: Conversation | ShareGPT, cells: Cells) -> Parts:
    return talk(_with_system(conversation(cell(cells, column), notation), shape, cells))


def plain(shape: PlainText, cells: Cells, task: Task) -> Parts:
    return Parts((), filled(cells, shape.text))


def preference(shape: Preference, cells: Cells, task: Task) -> Parts:
    """The better reply as the row's last turn, the worse one beside it; both to the same prompt."""
    asked = prompt_turns(cell(cells, shape.prompt)) if has(cells, shape.prompt) else ()
    better, worse = (reply_turns(cell(cells, column), asked) for column in (shape.chosen, shape.rejected))
    if better[:-1] != worse[:-1]:
        raise Unfit("no pair: chosen and rejected answer different prompts")
    if better == worse:
        raise Unfit("no pair: chosen and rejected are the same")
    return talk(_with_system(better, shape, cells))._replace(rejected=worse[-1][1])


def thumbs(shape: Thumbs, cells: Cells, task: Task) -> Parts:
    """A reply with its thumb. Where prompt and reply are one column, its turns end with the reply."""
    asked, thumb = cell(cells, shape.prompt), cell_text(cell(cells, shape.thumb)).strip()
    if shape.prompt == shape.reply:
        turns = ended(read_turns(asked))
    else:
        turns = reply_turns(cell(cells, shape.reply), prompt_turns(asked))
    liked = THUMBS.get(thumb.casefold())
    if liked is None:
        raise Unfit(f"no thumb: {thumb[:40]}" if thumb else f"empty: {shape.thumb}")
    return talk(_with_system(turns, shape, cells))._replace(liked=liked)


def talk(turns: tuple[Turn, ...]) -> Parts:
    """A conversation whose bare text is what was said before the reply."""
    return Parts(turns, "\n".join(content for role, content in turns[:-1] if role != "system"))


def _with_system(turns: tuple[Turn, ...], shape: Any, cells: Cells) -> tuple[Turn, ...]:
    """The turns behind the row's own system prompt, where its column holds one."""
    system = optional(cells, shape.system)
    if not system:
        return turns
    if turns[0][0] != "system":
        return (("system", system), *turns)
    if turns[0][1].strip() != system:
        raise Unfit(f"two system prompts: one in {shape.system}, another in the turns")
    return turns


SHAPES: dict[str, Callable[[Any, Cells, Task], Parts]] = {
    "labelled": labelled,
    "rated": rated,
    "prompt_reply": prompt_reply,
    "alpaca": alpaca,
    "conversation": messages,
    "sharegpt": sharegpt,
    "text": plain,
    "preference": preference,
    "thumbs": thumbs,
}
