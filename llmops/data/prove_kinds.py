"""Fifteen kinds of malformed data, and ten clean sets, taken the way that `run` goes up to step 1.

Nothing here detects anything: a case is prepared, rendered and refused by what `prepare`, `plan` and `train` call. A
kind is caught where that is refused with two lines, or where every bad row lies in the ledger with its reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from llmops.core.context import Surroundings
from llmops.core.errors import LlmopsError
from llmops.core.method import KTO, SFT
from llmops.core.proof import CheckResult, Size, caught
from llmops.core.recipe import Recipe
from llmops.core.sources import (
    Alpaca,
    Conversation,
    Data,
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
from llmops.data import prove_samples as samples
from llmops.data.prepare import prepare
from llmops.lm.check import refuse, refuse_losses
from llmops.lm.render import Example, Renderer
from llmops.lm.toy import toy_tokenizer
from llmops.store.workspace import Workspace

Spoil = Callable[[Example, Renderer], Example]
LABELS, REPLY = Classify(question="Which letter is it?", labels=("a", "b")), Reply()


@dataclass(frozen=True)
class Case:
    """A file of rows and how it is used. `bad` are the lines that must not be trained on; `spoil` a broken renderer."""

    rows: samples.Rows | bytes
    shape: Shape
    task: Task = REPLY
    bad: frozenset[int] = frozenset()
    spoil: Spoil | None = None
    max_tokens: int = 4096
    group: str | None = None


def checks(size: Size, at: Workspace) -> Iterator[CheckResult]:
    """The malformed kinds and the clean sets, as one check."""
    renderer = Renderer(toy_tokenizer())
    at.root.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="prove-", dir=at.root) as folder:
        missed = [name for name, case in KINDS.items() if not what_stops(case(), renderer, Path(folder))]
        alarms = {name: said for name, case in CLEAN.items() if (said := what_stops(case(), renderer, Path(folder)))}
    notes = [*(f"missed: {name}" for name in missed), *(f"{name}: {said}" for name, said in alarms.items())]
    yield caught(
        "malformed data before step 1", len(KINDS) - len(missed), len(KINDS), len(alarms), len(CLEAN), "; ".join(notes)
    )


def what_stops(case: Case, renderer: Renderer, folder: Path) -> str:
    """Why a case never reaches step 1, or why its bad rows do not; nothing where it would be trained on as it is."""
    with TemporaryDirectory(dir=folder) as scratch:
        file, at = Path(scratch) / "rows.jsonl", Workspace.find(Path(scratch) / "workspace", Surroundings(), environ={})
        file.write_bytes(case.rows if isinstance(case.rows, bytes) else lines(case.rows))
        source = Source(from_=f"path:{file}", shape=case.shape, group=case.group)
        try:
            objective = KTO() if isinstance(case.shape, Thumbs) else SFT()
            recipe = Recipe(name="proof", data=Data(sources=(source,)), task=case.task, objective=objective)
            manifest = prepare(recipe, at, 1)
            rows = at.rows(manifest.id, "train")
            examples = [case.spoil(one, renderer) if case.spoil else one for one in map(renderer.row, rows)]
            refuse(rows, examples, renderer)
            longer = [row.id for row, one in zip(rows, examples, strict=True) if len(one.ids) > case.max_tokens]
            refuse_losses(longer, [len(one.ids) for one in examples], case.max_tokens)
        except LlmopsError as error:
            return error.what
        kept = {row.line for part in ("train", "heldout") for row in at.rows(manifest.id, part)}
        if case.bad and not kept & case.bad:
            return f"{len(case.bad)} rows dropped"
        lost = {reason: count for reason, count in manifest.dropped.items() if not case.bad}
        return f"dropped: {lost}" if lost else ""


def lines(rows: samples.Rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def spoilt(rows: samples.Rows, change: Callable[[dict[str, Any]], dict[str, Any]], every: int = 3) -> dict[str, Any]:
    """Rows of which every third is changed, and the lines of those."""
    bad = frozenset(range(1, len(rows) + 1, every))
    return {"rows": [change(row) if line in bad else row for line, row in enumerate(rows, 1)], "bad": bad}


def chatml(row: dict[str, Any]) -> dict[str, Any]:
    """A prompt and reply that went through this base's template already."""
    opened = f"<|im_start|>user\n{row['prompt']}<|im_end|>\n<|im_start|>assistant\n"
    return {"prompt": opened, "reply": f"{row['reply']}<|im_end|>"}


def llama(row: dict[str, Any]) -> dict[str, Any]:
    """The same in another base's."""
    return {"prompt": f"[INST] {row['prompt']} [/INST]", "reply": row["reply"]}


def swapped(row: dict[str, Any]) -> dict[str, Any]:
    other = {"user": "assistant", "assistant": "user", "system": "system"}
    return {"messages": [{**turn, "role": other[turn["role"]]} for turn in row["messages"]]}


def unweighted(row: dict[str, Any]) -> dict[str, Any]:
    """Every reply marked as not to be learned."""
    return {"messages": [{**turn, "weight": 0} if turn["role"] == "assistant" else turn for turn in row["messages"]]}


def leaked() -> Case:
    """Rows of one author that stand again under another, who may be on the other side."""
    rows = [{**row, "author": f"a{number}"} for number, row in enumerate(samples.made(samples.pair))]
    copies = [{**row, "author": f"b{number}"} for number, row in enumerate(rows)]
    bad = frozenset(range(len(rows) + 1, 2 * len(rows) + 1))
    return Case([*rows, *copies], PromptReply(), bad=bad, group="author")


def exploded() -> Case:
    rows = samples.made(samples.pair)
    return Case([*rows, *[rows[0]] * 2000], PromptReply(), bad=frozenset(range(len(rows) + 1, len(rows) + 2001)))


def broken_text() -> Case:
    """Bytes of Latin-1, characters lost before, and UTF-8 that was read as Latin."""
    rows = [line + b"\n" for line in lines(samples.made(samples.labelled)).splitlines()]
    spoil = (b"caf\xe9 ", "caf\ufffd ".encode(), "cafÃ© ".encode())
    bad = frozenset(range(1, len(rows) + 1, 4))
    for line in bad:
        rows[line - 1] = rows[line - 1].replace(b'{"text": "', b'{"text": "' + spoil[line % 3])
    return Case(b"".join(rows), Labelled(), LABELS, bad)


def masked(one: Example, renderer: Renderer) -> Example:
    return Example(one.ids, [False] * len(one.ids))


def begun_twice(one: Example, renderer: Renderer) -> Example:
    begin = renderer.tokenizer.bos_token_id
    return Example([begin, begin, *one.ids], [False, False, *one.trained])


def endless(one: Example, renderer: Renderer) -> Example:
    return Example(one.ids[:-1], one.trained[:-1])


def shifted(one: Example, renderer: Renderer) -> Example:
    return Example(one.ids, [False, *one.trained[:-1]])


KINDS: dict[str, Callable[[], Case]] = {
    "masked answers": lambda: Case(samples.made(samples.talk), Conversation(), spoil=masked),
    "answers marked as not learned": lambda: Case(
        shape=Conversation(), **spoilt(samples.made(samples.talk), unweighted)
    ),
    "double template": lambda: Case(shape=PromptReply(), **spoilt(samples.made(samples.pair), chatml)),
    "double BOS": lambda: Case(samples.made(samples.pair), PromptReply(), spoil=begun_twice),
    "BOS in the text": lambda: Case(
        shape=PlainText(),
        task=Continue(),
        **spoilt(samples.made(samples.running), lambda row: {"text": f"<s>{row['text']}"}),
    ),
    "swapped roles": lambda: Case(shape=Conversation(), **spoilt(samples.made(samples.talk), swapped)),
    "empty answers": lambda: Case(
        shape=PromptReply(), **spoilt(samples.made(samples.pair), lambda row: {**row, "reply": " \n"})
    ),
    "answer cut off": lambda: Case(samples.made(samples.pair), PromptReply(), max_tokens=100),
    "wrong template": lambda: Case(shape=PromptReply(), **spoilt(samples.made(samples.pair), llama)),
    "system prompt lost": lambda: Case(
        [{**row, "system_prompt": "Be brief."} for row in samples.made(samples.pair)], PromptReply()
    ),
    "missing end token": lambda: Case(samples.made(samples.talk), Conversation(), spoil=endless),
    "shifted labels": lambda: Case(samples.made(samples.talk), Conversation(), spoil=shifted),
    "duplicate explosion": exploded,
    "mixed formats": lambda: Case(
        shape=Conversation(),
        **spoilt(samples.made(samples.talk), lambda row: samples.instruction(Random(str(row)), 1)),
    ),
    "broken UTF-8": broken_text,
    "leaked test rows": leaked,
    "single-class labels": lambda: Case(
        [{**row, "label": "a"} for row in samples.made(samples.labelled)], Labelled(), LABELS
    ),
}

# What real rows hold, and no damage: other scripts, accents, markup, code, the talk of tokens.
ODD: tuple[str, ...] = (
    "são João, Ã is a letter",
    "<b>bold</b> and <s>struck</s> out",
    "日本語 العربية हिन्दी",
    "if a < b and c > d: print('#N/A')",
    "the tag </s> ends, said she",
    "### Heading\n- item",
)

CLEAN: dict[str, Callable[[], Case]] = {
    "labels": lambda: Case(samples.made(samples.labelled), Labelled(), LABELS),
    "numbers": lambda: Case(samples.made(samples.rated), Rated(), Rate(question="How much?")),
    "conversations": lambda: Case(samples.made(samples.talk), Conversation()),
    "sharegpt": lambda: Case(
        [{"conversations": samples.in_sharegpt(row["messages"])} for row in samples.made(samples.talk)], ShareGPT()
    ),
    "prompts and replies": lambda: Case(samples.made(samples.pair), PromptReply()),
    "instructions": lambda: Case(samples.made(samples.instruction), Alpaca()),
    "preferences": lambda: Case(samples.made(samples.preferred), Preference()),
    "thumbs": lambda: Case(samples.made(samples.thumbed), Thumbs()),
    "running text": lambda: Case(samples.made(samples.running), PlainText(), Continue()),
    "text that looks odd": lambda: Case(
        [
            {"prompt": row["prompt"], "reply": f"{row['reply']} {odd}"}
            for row, odd in zip(samples.made(samples.pair), ODD * 20, strict=False)
        ],
        PromptReply(),
    ),
}
