"""`curate`: what people said of answers becomes rows to train on, each with its lineage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmops.core.dataset import Message
from llmops.core.errors import RequestError
from llmops.core.serving import Exchange, Feedback
from llmops.store.files import write_jsonl
from llmops.store.workspace import Workspace


def curate(workspace: Workspace, name: str, out: Path) -> int:
    """Write the usable feedback on `name` to `out` as JSON lines of {messages, exchange, version, author, at}.

    An edited answer becomes a row with the edit, the last one where there are several; an answer with its thumb up
    becomes a row with the answer. Anything else is left out, and said, with its reason. The file follows from the
    ledger alone, in the order of the exchanges. Returns the number of rows; `RequestError` where no version has
    that name or `out` is a folder.
    """
    if not workspace.versions(name):
        raise RequestError(f"there is no version called {name!r}", "see 'llmops list versions'")
    if out.is_dir():
        raise RequestError(f"{out} is a folder", "name a file to write, such as feedback.jsonl")
    said: dict[str, list[Feedback]] = {}
    for event in workspace.ledger.read(Feedback, name):
        said.setdefault(event.exchange, []).append(event)
    rows: list[dict[str, Any]] = []
    unused: dict[str, list[str]] = {}
    for exchange in workspace.ledger.read(Exchange, name):
        events = said.pop(exchange.id, [])
        if not events:
            continue
        chosen = _choose(exchange, events)
        if isinstance(chosen, str):
            unused.setdefault(chosen, []).append(exchange.id)
        else:
            rows.append(_row(exchange, *chosen))
    if said:
        unused["the exchange is not in the ledger"] = sorted(said)
    write_jsonl(out, rows)
    workspace.world.say(f"{len(rows)} rows in {out}, {sum(map(len, unused.values()))} answers with feedback not used")
    for reason, exchanges in unused.items():
        workspace.world.say(f"not used, {reason}: {len(exchanges)} ({', '.join(exchanges)})")
    return len(rows)


def _choose(exchange: Exchange, events: list[Feedback]) -> tuple[str, Feedback] | str:
    """(the reply to learn, the feedback that says so), or the reason why there is none. `events` are oldest first."""
    edits = [event for event in events if event.edit is not None]
    thumbs = list({event.author: event for event in events if event.thumb is not None}.values())
    ups = [event for event in thumbs if event.thumb == "up"]
    if not edits and not ups:
        return "thumb down without an edit"
    if not exchange.messages:
        return "its text was not kept"
    if edits:
        edit = (edits[-1].edit or "").strip()
        return (edit, edits[-1]) if edit else "the edit is empty"
    if len(ups) < len(thumbs):
        return "people disagree"
    if not (exchange.answer or "").strip():
        return "its text was not kept"
    if exchange.finish != "stop":
        return f"the answer did not come to its end ({exchange.finish})"
    return exchange.answer or "", ups[-1]


def _row(exchange: Exchange, reply: str, event: Feedback) -> dict[str, Any]:
    messages = (*exchange.messages, Message(role="assistant", content=reply))
    return {
        "messages": [message.to_json() for message in messages],
        "exchange": exchange.id,
        "version": exchange.version,
        "author": event.author,
        "at": event.at.isoformat(),
    }
