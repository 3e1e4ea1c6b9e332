"""Who takes part in a tournament: a visible table of kinds, and who of them applies to a recipe."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from llmops.core.choice import Contest, Entrant, Kind
from llmops.core.dataset import Row
from llmops.core.method import LoRA, PromptTuning
from llmops.core.recipe import Recipe
from llmops.core.tasks import Classify
from llmops.core.value import digest


class Part(NamedTuple):
    """What a kind of row needs, and how a person would describe it."""

    needs_base: bool
    about: str
    quick: bool = False  # fitted in a moment to rows that were read once: tried on every deal


KINDS: dict[Kind, Part] = {
    "majority": Part(False, "the same answer for every text: the commonest label, or the mean rating", quick=True),
    "word_list": Part(False, "the sum of a word list's values, against a threshold", quick=True),
    "tfidf": Part(False, "TF-IDF with logistic regression, or with ridge for a rating", quick=True),
    "frozen": Part(True, "a linear model on the frozen base's last hidden state", quick=True),
    "nearest": Part(True, "the answers of the training rows whose hidden states are nearest", quick=True),
    "zero_shot": Part(True, "the base asked as it is; of labels, scale and bias are fitted"),
    "few_shot": Part(True, "the same with some training rows before the question"),
    "tuned": Part(True, "the base trained: prompt tuning, LoRA at several ranks, the recipe's own method"),
}


def entrants(recipe: Recipe, contest: Contest, bases: Sequence[str]) -> tuple[list[Entrant], dict[str, str]]:
    """(who takes part, cheapest kinds first; who of all kinds does not, and why)."""
    found: list[Entrant] = []
    absent: dict[str, str] = {}
    for kind, part in KINDS.items():
        if contest.only and kind not in contest.only:
            absent[kind] = "not asked for"
        elif kind == "word_list" and (why := _no_word_list(recipe)):
            absent[kind] = why
        elif kind == "tuned":
            found += [entrant for base in bases for entrant in _tuned(recipe, contest, base)]
        elif part.needs_base:
            found += [Entrant(name=f"{kind}@{short(base)}", kind=kind, base=base) for base in bases]
        else:
            found.append(Entrant(name=kind, kind=kind))
    return found, absent


def _no_word_list(recipe: Recipe) -> str:
    if not isinstance(recipe.task, Classify) or len(recipe.task.labels) != 2:
        return "one sum of words ranks two labels only"
    return "" if recipe.baselines.word_list else "the recipe names none (baselines.word_list)"


def _tuned(recipe: Recipe, contest: Contest, base: str) -> list[Entrant]:
    """LoRA at each rank, the recipe's own method where it is another one, and prompt tuning."""
    made = [
        Entrant(name=f"lora-{rank}@{short(base)}", kind="tuned", base=base, method=LoRA(rank=rank))
        for rank in contest.ranks
    ]
    own = recipe.method
    if own.kind not in ("lora", "prompt_tuning"):
        made.append(Entrant(name=f"{own.kind}@{short(base)}", kind="tuned", base=base, method=own))
    prompt = own if own.kind == "prompt_tuning" else PromptTuning()
    return [*made, Entrant(name=f"prompt_tuning@{short(base)}", kind="tuned", base=base, method=prompt)]


def short(base: str) -> str:
    """A base's name without where it lies: `path:/models/tiny` is `tiny`."""
    return (
        re.sub(r"[^A-Za-z0-9._-]+", "-", base.rstrip("/").rsplit("/", maxsplit=1)[-1].removeprefix("path:")) or "base"
    )


def examples(rows: Sequence[Row], shots: int) -> list[Row]:
    """The examples of a few-shot prompt: by hash, the short half of the rows only, the labels in turn."""
    ordered = sorted(rows, key=lambda row: digest(["shot", row.id]))
    middle = sorted(len(row.text) for row in rows)[len(rows) // 2]
    queues: dict[str | None, list[Row]] = {}
    for row in (row for row in ordered if len(row.text) <= middle):
        queues.setdefault(row.label, []).append(row)
    taken: list[Row] = []
    while len(taken) < shots and any(queues.values()):
        for queue in queues.values():
            if queue and len(taken) < shots:
                taken.append(queue.pop(0))
    return taken


def with_examples(row: Row, shown: Sequence[Row]) -> Row:
    """The row with `shown` asked and answered between its system prompt and its own question; its id stays."""
    system = [message for message in row.messages if message.role == "system"]
    turns = [message for one in shown for message in one.messages if message.role != "system"]
    rest = [message for message in row.messages if message.role != "system"]
    return row.replace(messages=(*system, *turns, *rest))
