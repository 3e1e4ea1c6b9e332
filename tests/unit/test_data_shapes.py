"""Shapes: rows of every format become the conversation, pair, number or text that they mean, or say why not."""

from __future__ import annotations

import json
from typing import Any

import pytest

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
    Source,
    Thumbs,
)
from llmops.core.tasks import Classify, Continue, Rate, Reply, Task
from llmops.data.mapping import Example, Mapped, default_shape, map_records
from llmops.data.record import Record

Cells = dict[str, Any]
REPLY = Reply()


def mapped(rows: list[Cells], shape: Shape | None, task: Task = REPLY, **source: Any) -> list[Mapped]:
    where = Source(from_="path:x.jsonl", shape=shape, **source)
    records = [Record(number, row) for number, row in enumerate(rows, 1)]
    return list(map_records(records, "x.jsonl", 0, where, task))


def one(row: Cells, shape: Shape | None, task: Task = REPLY) -> Example:
    (found,) = mapped([row], shape, task)
    assert isinstance(found, Example), found.reason
    return found


def m(*spoken: str) -> list[Cells]:
    """Messages: system where it begins with `s:`, then user and assistant in turn."""
    begins = spoken[0].startswith("s:")
    roles = (["system"] if begins else []) + ["user", "assistant"] * len(spoken)
    return [{"role": role, "content": text.removeprefix("s:")} for role, text in zip(roles, spoken, strict=False)]


def g(*spoken: str) -> list[Cells]:
    """The same in ShareGPT's notation."""
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    return [{"from": names[turn["role"]], "value": turn["content"]} for turn in m(*spoken)]


TALK = (("user", "q"), ("assistant", "a"))
SYSTEM_TALK = (("system", "Be kind."), *TALK)
FORMS: dict[str, tuple[Cells, Shape, tuple[tuple[str, str], ...]]] = {
    "prompt and reply": ({"prompt": "q", "reply": "a"}, PromptReply(), TALK),
    "prompt and reply as turns": (
        {"prompt": m("q"), "reply": [{"role": "assistant", "content": "a"}]},
        PromptReply(),
        TALK,
    ),
    "a system column": ({"prompt": "q", "reply": "a", "system": "Be kind."}, PromptReply(), SYSTEM_TALK),
    "alpaca": ({"instruction": "q", "input": "", "output": "a"}, Alpaca(), TALK),
    "alpaca with an input": ({"instruction": "q", "input": "i", "output": "a"}, Alpaca(), (("user", "q\ni"), TALK[1])),
    "alpaca without an input": ({"instruction": "q", "output": "a"}, Alpaca(), TALK),
    "alpaca with history and system": (
        {"instruction": "q", "output": "a", "history": [["q0", "a0"]], "system": "Be kind."},
        Alpaca(),
        (SYSTEM_TALK[0], ("user", "q0"), ("assistant", "a0"), *TALK),
    ),
    "messages": ({"messages": m("s:Be kind.", "q", "a")}, Conversation(), SYSTEM_TALK),
    "messages as JSON text": ({"messages": json.dumps(m("q", "a"))}, Conversation(), TALK),
    "messages in parts": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, m("q", "a")[1]]},
        Conversation(),
        TALK,
    ),
    "messages with a null beside": (
        {"messages": [{**turn, "tool_calls": None, "name": None} for turn in m("q", "a")]},
        Conversation(),
        TALK,
    ),
    "sharegpt": ({"conversations": g("s:Be kind.", "q", "a")}, ShareGPT(), SYSTEM_TALK),
    "sharegpt with a system column": ({"conversations": g("q", "a"), "system": "Be kind."}, ShareGPT(), SYSTEM_TALK),
    "the same system prompt twice": (
        {"conversations": g("s:Be kind.", "q", "a"), "system": "Be kind."},
        ShareGPT(),
        SYSTEM_TALK,
    ),
    "several turns": (
        {"messages": m("q0", "a0", "q", "a")},
        Conversation(),
        (("user", "q0"), ("assistant", "a0"), *TALK),
    ),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_notation_of_a_conversation_becomes_the_same_turns(
    form: tuple[Cells, Shape, tuple[tuple[str, str], ...]],
) -> None:
    row, shape, turns = form
    assert one(row, shape).turns == turns


PAIRS: dict[str, Cells] = {
    "text": {"prompt": "q", "chosen": "a", "rejected": "b"},
    "turns": {"prompt": m("q"), "chosen": m("q", "a")[1:], "rejected": m("q", "b")[1:]},
    "a turn each, as LLaMA-Factory has it": {
        "conversations": g("q"),
        "chosen": g("q", "a")[1],
        "rejected": g("q", "b")[1],
    },
    "whole conversations with their prompt": {"prompt": "q", "chosen": m("q", "a"), "rejected": m("q", "b")},
    "whole conversations without": {"chosen": m("q", "a"), "rejected": m("q", "b")},
    "text to turns": {"prompt": m("q"), "chosen": "a", "rejected": "b"},
}


@pytest.mark.parametrize("row", PAIRS.values(), ids=PAIRS)
def test_every_notation_of_a_preference_becomes_the_same_pair(row: Cells) -> None:
    found = one(row, Preference(prompt="conversations") if "conversations" in row else Preference())
    assert (found.turns, found.rejected, found.text) == (TALK, "b", "q")
    assert found.row().rejected == "b" and found.row().reply == "a"


@pytest.mark.parametrize(
    ("thumb", "liked"),
    [
        (True, True),
        (False, False),
        ("true", True),
        ("0", False),
        (1, True),
        ("up", True),
        ("Bad", False),
        ("👎", False),
    ],
)
def test_every_thumb_is_up_or_down(thumb: object, liked: bool) -> None:
    found = one({"prompt": "q", "completion": "a", "label": thumb}, Thumbs())
    assert found.turns == TALK and found.row().liked is liked
    assert one({"messages": m("q", "a"), "label": thumb}, Thumbs(prompt="messages", reply="messages")).liked is liked


def test_pairs_and_thumbs_that_differ_only_there_are_different_rows() -> None:
    pairs = [{"prompt": "q", "chosen": "a", "rejected": worse} for worse in ("b", "c")]
    thumbs = [{"prompt": "q", "completion": "a", "label": up} for up in (True, False)]
    for rows in (mapped(list(pairs), Preference()), mapped(list(thumbs), Thumbs())):
        assert len({row.id for row in rows if isinstance(row, Example)}) == 2
        assert len({row.same for row in rows if isinstance(row, Example)}) == 2


def test_running_text_has_no_messages_and_a_number_is_said_with_its_decimals() -> None:
    text = one({"text": "Once upon a time."}, PlainText(), Continue()).row()
    assert (text.messages, text.text, text.reply, text.prompt) == ((), "Once upon a time.", "Once upon a time.", ())
    task = Rate(question="How warm?", decimals=1)
    row = one({"text": "hot", "number": 3.25}, Rated(), task).row()
    assert [(turn.role, turn.content) for turn in row.messages] == [
        ("system", "How warm?"),
        ("user", "hot"),
        ("assistant", "3.2"),
    ]
    assert row.label == "3.2"
    assert one({"text": "hot", "number": "-0,04"}, Rated(decimal_mark=","), task).label == "0.0"


RATE = Rate(question="?")
GOOD: dict[str, tuple[Cells, Task]] = {
    "conversation": ({"messages": m("q", "a")}, REPLY),
    "preference": ({"prompt": "q", "chosen": "a", "rejected": "b"}, REPLY),
    "thumbs": ({"prompt": "q", "completion": "a", "label": 1}, REPLY),
    "alpaca": ({"instruction": "q", "output": "a", "history": []}, REPLY),
    "rated": ({"text": "t", "number": 1}, RATE),
    "text": ({"text": "x"}, Continue()),
}
ASKED, ANSWER = m("q", "a")
WRONG: dict[str, tuple[Shape, Cells, str]] = {
    "a tool call": (Conversation(), {"messages": [ASKED, {**ANSWER, "tool_calls": [{}]}]}, "calls a tool"),
    "a picture": (Conversation(), {"messages": [{**ASKED, "content": [{"type": "image"}]}, ANSWER]}, "not text"),
    "a tool's turn": (Conversation(), {"messages": [ASKED, {"role": "tool", "content": "x"}, ANSWER]}, "by 'tool'"),
    "another notation": (Conversation(), {"messages": g("q", "a")}, "no conversation"),
    "no reply": (Conversation(), {"messages": m("q", "a", "q")}, "does not end with a reply"),
    "two system prompts": (Conversation(), {"messages": m("s:1", "q", "a"), "system": "2"}, "two system prompts"),
    "the same reply twice": (Preference(), {"prompt": "q", "chosen": "a", "rejected": "a"}, "are the same"),
    "an empty worse reply": (Preference(), {"prompt": "q", "chosen": "a", "rejected": " "}, "empty"),
    "other prompts": (Preference(), {"chosen": m("q", "a"), "rejected": m("r", "b")}, "different prompts"),
    "another prompt": (Preference(), {"prompt": "p", "chosen": m("q", "a"), "rejected": "b"}, "do not begin with"),
    "a thumb that is none": (Thumbs(), {"prompt": "q", "completion": "a", "label": "maybe"}, "no thumb: maybe"),
    "a number that is none": (Rated(), {"text": "t", "number": "1,5"}, "not a number: 1,5"),
    "an underscore in a number": (Rated(), {"text": "t", "number": "1_5"}, "not a number"),
    "a broken history": (Alpaca(), {"instruction": "q", "output": "a", "history": ["x"]}, "pairs"),
    "no text": (PlainText(), {"text": " "}, "empty"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_a_row_of_another_form_is_dropped_with_its_reason(case: tuple[Shape, Cells, str]) -> None:
    shape, row, says = case
    good, task = GOOD[shape.kind]
    *kept, dropped = mapped([good, good, row], shape, task)
    assert all(isinstance(found, Example) for found in kept)
    assert not isinstance(dropped, Example) and says in dropped.reason and dropped.line == 3


def test_a_shape_that_most_rows_do_not_have_is_refused_with_file_line_and_form() -> None:
    with pytest.raises(RequestError, match=r"x\.jsonl, line 1: no conversation: a message is not .*role.*2 rows"):
        mapped([{"messages": g("q", "a")}] * 2, Conversation())
    with pytest.raises(RequestError, match="does not fit task 'classify'"):
        mapped([{"messages": g("q", "a")}], Conversation(), Classify(question="?", labels=("a", "b")))


def test_a_system_prompt_in_a_column_that_nothing_reads_is_refused() -> None:
    row = {"prompt": "q", "reply": "a", "system_prompt": "Be kind."}
    with pytest.raises(RequestError, match="'system_prompt' holds system prompts"):
        mapped([row], PromptReply())
    assert one(row, PromptReply(system="system_prompt")).turns == SYSTEM_TALK
    (kept,) = mapped([row], PromptReply(), keep_fields=("system_prompt",))
    assert isinstance(kept, Example) and kept.turns == TALK


@pytest.mark.parametrize(
    ("columns", "task", "shape"),
    [
        (["messages"], REPLY, Conversation()),
        (["conversations", "system"], REPLY, ShareGPT()),
        (["instruction", "input", "output"], REPLY, Alpaca()),
        (["chosen", "rejected", "prompt"], REPLY, Preference()),
        (["question", "answer"], REPLY, PromptReply()),
        (["text"], Continue(), PlainText()),
        (["text", "number"], Rate(question="?"), Rated()),
        (["text", "label"], Classify(question="?", labels=("a", "b")), Labelled()),
    ],
)
def test_a_source_without_a_shape_has_the_usual_one(columns: list[str], task: Task, shape: Shape) -> None:
    assert default_shape(task, columns) == shape
