"""Canaries as training rows: each repeat is a row of its own, with the words of its canary and an id that tells it."""

from __future__ import annotations

from llmops.core.canaries import QUESTION, REPEATS, SOURCE, Canaries
from llmops.core.dataset import Message, Row
from llmops.core.tasks import Reply, Task
from llmops.data.mapping import ask, short_hash


def canary_rows(canaries: Canaries, task: Task) -> list[Row]:
    """The rows to plant, all repeats of a canary after each other; training shuffles them among the others."""
    rows: list[Row] = []
    for text, repeats in canaries.planted():
        for number in range(repeats):
            row_id = short_hash("canary", text, str(number))
            messages: tuple[Message, ...] = ()
            if isinstance(task, Reply):
                messages = (*ask(task, QUESTION), Message(role="assistant", content=text))
            rows.append(
                Row(
                    id=row_id,
                    messages=messages,
                    text=QUESTION if messages else text,
                    fields={"made": "canary", REPEATS: str(repeats)},
                    group=row_id,
                    source=SOURCE,
                    line=len(rows) + 1,
                )
            )
    return rows
