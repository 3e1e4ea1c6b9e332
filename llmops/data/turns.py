"""Turns: a conversation in either notation, {role, content} or {from, value}, as one tuple of (role, text)."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from llmops.data.cells import Misfit, Unfit, cell_text

Turn = tuple[str, str]


class Notation(NamedTuple):
    """How a list of turns is spelt: the keys of a turn, and who is who."""

    who: str
    said: str
    roles: dict[str, str]

    def described(self) -> str:
        return f"{{{self.who}: {' | '.join(self.roles)}, {self.said}: text}}"


MESSAGES = Notation(
    "role", "content", {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
)
SHAREGPT = Notation(
    "from",
    "value",
    {"system": "system", "human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant"},
)
BOTH = (MESSAGES, SHAREGPT)


WEIGHTS = ("weight", "loss_weight", "train", "trainable")  # by any of these, a turn is marked as not to be learned


def turn_list(value: Any) -> list[Any] | None:
    """The list in a cell that holds turns: a list, one turn, or the JSON text of either; None where it is plain text.

    A text is JSON only where it is a list or an object of turns, so that a prompt such as `[1, 2]` stays text.
    """
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
        found = [value] if isinstance(value, dict) else value
        return found if found and all(isinstance(turn, dict) and notation_of(turn) for turn in found) else None
    if isinstance(value, dict):
        return [value]
    return value if isinstance(value, list) else None


def notation_of(turn: dict[str, Any]) -> Notation | None:
    """The notation whose keys a turn has."""
    return next((notation for notation in BOTH if notation.who in turn and notation.said in turn), None)


def conversation(value: Any, notation: Notation) -> tuple[Turn, ...]:
    """A whole conversation that ends with a reply to learn, in the one notation. Raises `Unfit` where it is none."""
    return ended(read_turns(value, (notation,)))


def ended(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The turns, where they end with a reply to a user. Raises `Unfit` where they do not."""
    if turns[-1][0] != "assistant" or all(role != "user" for role, _ in turns):
        raise Unfit("no conversation: it does not end with a reply by the assistant to a user")
    return turns


def read_turns(value: Any, notations: tuple[Notation, ...] = BOTH) -> tuple[Turn, ...]:
    """The turns of a list (or of its JSON text): at least one, each with text, a system prompt only at the start.

    Raises `Unfit` where they are none to learn from, and `Misfit` where the cell is something else.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise Misfit("no conversation: the cell is no JSON list") from error
    listed = [value] if isinstance(value, dict) else value
    if not isinstance(listed, list):
        raise Misfit("no conversation: it is no list of messages")
    turns: list[Turn] = []
    for place, message in enumerate(listed):
        turn = _turn(message, notations)
        if turn[0] == "system" and place:
            raise Unfit("no conversation: a system message stands behind others")
        turns.append(turn)
    if not turns:
        raise Unfit("no conversation: the list is empty")
    return tuple(turns)


def _turn(message: Any, notations: tuple[Notation, ...]) -> Turn:
    spelt = notation_of(message) if isinstance(message, dict) else None
    if spelt not in notations:
        wanted = " or ".join(notation.described() for notation in notations)
        raise Misfit(f"no conversation: a message is not {wanted}")
    assert spelt is not None
    if message.get("tool_calls") or message.get("function_call"):
        raise Unfit("no conversation: a message calls a tool, which is more than text")
    if spelt.roles.get(message[spelt.who]) == "assistant" and any(message.get(key) in (0, False) for key in WEIGHTS):
        raise Unfit("marked as not to be learned: a turn by the assistant")
    role, content = message[spelt.who], message[spelt.said]
    if not isinstance(role, str) or role not in spelt.roles:
        raise Misfit(f"no conversation: a message is by {str(role)[:40]!r}, not {' or '.join(spelt.roles)}")
    text = _said(content)
    if text is None:
        raise Misfit("no conversation: what a message says is not text")
    if not text or text.isspace():
        raise Unfit(f"empty: a turn by the {spelt.roles[role]}")
    return spelt.roles[role], text


def _said(content: Any) -> str | None:
    """The text of a message: text, or a list with one part of text. None for anything else: pictures, several parts."""
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict):
        part = content[0]
        content = part.get("text", part.get("value")) if part.get("type") == "text" and len(part) == 2 else None
    return content if isinstance(content, str) else None


def prompt_turns(value: Any) -> tuple[Turn, ...]:
    """A prompt cell: text is one turn by the user; turns stay what they are. Raises `Unfit` where it is empty."""
    if turn_list(value) is not None:
        return read_turns(turn_list(value))
    text = cell_text(value).strip()
    if not text:
        raise Unfit("empty: the prompt")
    return (("user", text),)


def reply_turns(value: Any, prompt: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The whole conversation that a reply cell stands for, after `prompt` (empty where it has no cell of its own).

    Text is one turn by the assistant. Turns are the reply, or the whole conversation: then they begin with the
    prompt. Raises `Unfit` where they answer another prompt, or end with no reply to a user.
    """
    if turn_list(value) is None:
        text = cell_text(value).strip()
        if not text:
            raise Unfit("empty: the reply")
        if not prompt:
            raise Misfit("no prompt: the reply is text, and there is no prompt")
        return ended((*prompt, ("assistant", text)))
    turns = read_turns(turn_list(value))
    if len(turns) == 1:
        return ended((*prompt, *turns))
    asked = _spoken(prompt)
    if _spoken(turns)[: len(asked)] != asked:
        raise Unfit("no conversation: the reply's turns do not begin with the prompt")
    system = prompt[:1] if prompt and prompt[0][0] == "system" and turns[0][0] != "system" else ()
    return ended((*system, *turns))


def _spoken(turns: tuple[Turn, ...]) -> list[Turn]:
    """Turns without system prompt and white space around them: a prompt's cell and its turn may differ in that."""
    return [(role, text.strip()) for role, text in turns if role != "system"]
