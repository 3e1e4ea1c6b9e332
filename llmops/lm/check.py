"""Refusals before step 1: rows that would train on nothing, double their beginning, or never learn to stop.

And the round trip: a row as we render it against the base's own chat template over the whole conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from llmops.core.dataset import Row
from llmops.core.errors import RequestError
from llmops.core.views import RoundTrip
from llmops.lm.render import Example, Renderer

SHOWN = 5
MOST_LEFT_OUT = 0.1  # a share of the rows: more than that is no tail of odd rows


def refuse(rows: Sequence[Row], examples: Sequence[Example], renderer: Renderer) -> None:
    """Raise `RequestError`, naming rows, where training on one of `examples` (of the same `rows`) teaches a fault."""
    found: dict[str, list[Row]] = {}
    for row, example in zip(rows, examples, strict=True):
        if wrong := fault(row, example, renderer):
            found.setdefault(wrong, []).append(row)
    if not found:
        return
    wrong, bad = max(found.items(), key=lambda item: len(item[1]))
    where = ", ".join(f"{row.id} ({row.source}, line {row.line})" for row in bad[:SHOWN])
    more = f" and {len(bad) - SHOWN:,} more" if len(bad) > SHOWN else ""
    others = "".join(f"; {len(some):,} {other}" for other, some in found.items() if other != wrong)
    raise RequestError(
        f"{len(bad):,} of {len(rows):,} rows {wrong}: {where}{more}{others}",
        "see one with 'llmops inspect DATASET --row N'; mend the rows, or take a base whose template closes its turns",
    )


def refuse_losses(left_out: Collection[str], row_tokens: Sequence[int], max_tokens: int) -> None:
    """Raise `RequestError` where so many rows would lose their answer to `max_tokens` that the rest is another set.

    `left_out` are the ids of the longer rows: they are left out whole, never cut. A tail of odd ones is a decision of
    the plan, which lists them.
    """
    if len(left_out) <= MOST_LEFT_OUT * len(row_tokens):
        return
    rows = ", ".join(list(left_out)[:SHOWN])
    rows += f" and {len(left_out) - SHOWN:,} more" if len(left_out) > SHOWN else ""
    raise RequestError(
        f"{len(left_out):,} of {len(row_tokens):,} rows are longer than {max_tokens} tokens and would lose their "
        f"answer: {rows}",
        f"raise training.max_tokens (the longest row has {max(row_tokens)}), leave it open, or shorten the rows",
    )


def fault(row: Row, example: Example, renderer: Renderer) -> str:
    """What training on a row would teach wrongly, or nothing."""
    return next((wrong for wrong, has in FAULTS.items() if has(row, example, renderer)), "")


def trains_on_nothing(row: Row, example: Example, renderer: Renderer) -> bool:
    learned = [token for token, trained in zip(example.ids, example.trained, strict=True) if trained]
    return not any(token not in renderer.end_ids for token in learned)


def doubles_the_beginning(row: Row, example: Example, renderer: Renderer) -> bool:
    """Twice the token that begins a sequence; not where the template opens each turn with it."""
    begin = renderer.tokenizer.bos_token_id
    return begin is not None and example.ids[:2] == [begin, begin]


def never_ends(row: Row, example: Example, renderer: Renderer) -> bool:
    return example.ids[-1] not in renderer.end_ids or not example.trained[-1]


def is_shifted(row: Row, example: Example, renderer: Renderer) -> bool:
    """The mask does not lie on the reply: a token of it is not trained, or what is trained last is not the reply."""
    reply = [*renderer.content_ids(row.reply), example.ids[-1]]
    if not row.messages:
        reply = reply[1:]  # nothing stands before a text's first token
    return example.ids[-len(reply) :] != reply or not all(example.trained[-len(reply) :])


def trains_on_its_question(row: Row, example: Example, renderer: Renderer) -> bool:
    """The first token of a conversation is never a reply."""
    return bool(row.messages) and example.trained[0]


# What a row must not do, and whether it does.
FAULTS: dict[str, Callable[[Row, Example, Renderer], bool]] = {
    "would train on nothing": trains_on_nothing,
    "begin twice (the BOS is doubled)": doubles_the_beginning,
    "never train their end token": never_ends,
    "have a mask that does not lie on the reply": is_shifted,
    "train on their first token": trains_on_its_question,
}


def round_trip(row: Row, example: Example, renderer: Renderer) -> RoundTrip | None:
    """Our ids against those of the tokenizer's own `apply_chat_template` of the whole conversation.

    What the template puts behind the last end token (a line end, as a rule) is not counted. None where there is no
    template of the base's own, or the row is running text.
    """
    tokenizer: Any = renderer.tokenizer
    if renderer.template != "base" or not row.messages:
        return None
    turns = [{"role": turn.role, "content": turn.content} for turn in row.messages]
    theirs = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
    ours = example.ids
    at = next((place for place, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), len(ours))
    if at == len(ours) and not tokenizer.decode(theirs[at:], skip_special_tokens=False).strip():
        return RoundTrip(same=True)

    def around(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(ids[max(0, at - 3) : at + 8], clean_up_tokenization_spaces=False))

    return RoundTrip(same=False, at=at, ours=around(ours), theirs=around(theirs))
