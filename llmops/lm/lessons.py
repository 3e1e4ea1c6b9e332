"""Lessons: what each row teaches, as token ids. Planning measures them, training learns them: one way for both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llmops.core.dataset import Message, Row
from llmops.core.errors import RequestError
from llmops.core.method import DPO, KTO, ORPO, SFT, Objective
from llmops.lm.render import Example, Renderer


@dataclass(frozen=True)
class Lesson:
    """The examples of one row (or of one window of a long text) that its loss compares.

    SFT: one. DPO and ORPO: chosen, rejected. KTO: the reply, and a stranger's reply to the same prompt.
    """

    row: str
    examples: tuple[Example, ...]
    liked: bool = True

    @property
    def tokens(self) -> int:
        """Tokens that a model reads for it: a prompt that its examples share is read once."""
        first, *others = self.examples
        return len(first.ids) + sum(len(other.ids) - other.start for other in others)


def lessons(
    renderer: Renderer, rows: Sequence[Row], objective: Objective, most_tokens: int | None = None
) -> list[Lesson]:
    """The lessons of `rows`, in their order. A text of more than `most_tokens` becomes several, in windows.

    Raises `RequestError` where a row does not hold what the objective compares.
    """
    found: list[Lesson] = []
    for place, row in enumerate(rows):
        if not row.messages:
            found += _of_text(renderer, row, objective, most_tokens)
        elif isinstance(objective, KTO):
            found.append(_of_thumb(renderer, row, rows[place - 1]))
        elif isinstance(objective, DPO | ORPO):
            found.append(_of_pair(renderer, row, isinstance(objective, ORPO)))
        else:
            found.append(_of_reply(renderer, row, objective))
    return found


def window_sizes(tokens: int, most_tokens: int) -> list[int]:
    """Lengths of the windows of a text of `tokens`. Each begins with the last token of the one before it."""
    starts = range(0, max(1, tokens - 1), most_tokens - 1)
    return [min(most_tokens, tokens - start) for start in starts]


def _of_text(renderer: Renderer, row: Row, objective: Objective, most_tokens: int | None) -> Iterator[Lesson]:
    if not isinstance(objective, SFT):
        raise _unfit(row, f"is running text, and {objective.kind} compares replies", "objective.kind: sft")
    whole = renderer.running_text(row.text)
    start = 0
    for size in window_sizes(len(whole.ids), most_tokens or len(whole.ids)):
        ids = whole.ids[start : start + size]
        yield Lesson(row.id, (Example(ids, [False] + [True] * (size - 1), 1),))
        start += size - 1


def _of_reply(renderer: Renderer, row: Row, objective: SFT) -> Lesson:
    if row.liked is False:
        raise _unfit(row, "was disliked, and sft would learn to say it", "objective.kind: kto")
    if objective.roles:
        return Lesson(row.id, (renderer.turns(row.messages, objective.roles),))
    return Lesson(row.id, (renderer.example(row.messages),))


def _of_pair(renderer: Renderer, row: Row, prompt_too: bool) -> Lesson:
    if row.rejected is None:
        raise _unfit(row, "has no rejected reply", "a source of shape 'preference'")
    chosen = renderer.example(row.messages)
    if prompt_too:
        chosen = Example(chosen.ids, [True] * len(chosen.ids), chosen.start)
    return Lesson(row.id, (chosen, renderer.example(with_reply(row, row.rejected))))


def _of_thumb(renderer: Renderer, row: Row, stranger: Row) -> Lesson:
    if row.liked is None:
        raise _unfit(row, "has no thumb", "a source of shape 'thumbs'")
    mismatched = renderer.example(with_reply(row, stranger.reply))
    return Lesson(row.id, (renderer.example(row.messages), mismatched), row.liked)


def with_reply(row: Row, reply: str) -> tuple[Message, ...]:
    """The row's messages with another reply."""
    return (*row.prompt, row.messages[-1].replace(content=reply))


def _unfit(row: Row, what: str, fix: str) -> RequestError:
    return RequestError(f"row {row.id} ({row.source}, line {row.line}) {what}", f"take {fix}")
