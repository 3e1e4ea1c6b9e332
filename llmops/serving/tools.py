"""Calls of tools: how a base writes them, told by its template; read here, in the gateway, and never by the engine."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from llmops.serving.constraint import Constraint, json_rule
from llmops.serving.requests import ChatMessage, ChatRequest, ChosenTool, Tool
from llmops.serving.wire import ApiError

Json = dict[str, Any]


class ToolRenderer(Protocol):
    """What serving needs of `lm.tools.ToolRenderer`. `template` is the text that tells how calls are written."""

    template: str

    def prompt_ids(self, turns: Sequence[Json], tools: Sequence[Json]) -> list[int]: ...


@dataclass(frozen=True)
class Spelling:
    """How one family writes a call. `sign` stands in the templates that ask for it."""

    sign: str
    call: re.Pattern[str]
    before: str
    behind: str
    arguments: str

    def read(self, text: str, names: Sequence[str]) -> tuple[str, list[Json]]:
        """(what stands beside the calls, the calls). What is no call of a known function stays text."""
        calls: list[Json] = []

        def take(found: re.Match[str]) -> str:
            call = self._call(found.group(1), names)
            if call is None:
                return found.group()
            calls.append(call)
            return ""

        rest = self.call.sub(take, text)
        return (rest.strip(), calls) if calls else (text, [])

    def _call(self, written: str, names: Sequence[str]) -> Json | None:
        try:
            said = json.loads(written)
        except ValueError:
            return None
        if not isinstance(said, dict) or said.get("name") not in names:
            return None
        arguments = said.get(self.arguments, {})
        if not isinstance(arguments, dict):
            return None
        function = {"name": said["name"], "arguments": json.dumps(arguments, ensure_ascii=False)}
        return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}

    def forced(self, tools: Sequence[Tool]) -> Constraint:
        """One call of one of these functions and nothing else."""
        shapes = [
            {
                "type": "object",
                "properties": {
                    "name": {"const": tool.function.name},
                    self.arguments: tool.function.parameters or {"type": "object"},
                },
                "required": ["name", self.arguments],
                "additionalProperties": False,
            }
            for tool in tools
        ]
        rule = json_rule(shapes[0] if len(shapes) == 1 else {"anyOf": shapes})
        parts = [json.dumps(part) for part in (self.before,) if part]
        ends = [json.dumps(part) for part in (self.behind,) if part]
        grammar = f"%llguidance {{}}\nstart: {' '.join([*parts, 'call', *ends])}\ncall: {rule}"
        names = [tool.function.name for tool in tools]

        def fault(text: str) -> str | None:
            return None if self.read(text, names)[1] else "it is no call of the function"

        return Constraint(grammar, {}, fault)


SPELLINGS: dict[str, Spelling] = {
    "hermes": Spelling(
        "<tool_call>",
        re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL),
        "<tool_call>\n",
        "\n</tool_call>",
        "arguments",
    ),
    "llama": Spelling(
        '"parameters"', re.compile(r"\A\s*(?:<\|python_tag\|>)?(\{.*\})\s*\Z", re.DOTALL), "", "", "parameters"
    ),
}


@dataclass(frozen=True)
class ToolUse:
    """The tools of one request, and how calls of them are written."""

    spelling: Spelling
    names: tuple[str, ...]
    constraint: Constraint | None
    most: int | None

    def read(self, text: str) -> tuple[str, list[Json]]:
        """(the text, the calls) of an answer."""
        rest, calls = self.spelling.read(text, self.names)
        return rest, calls[: self.most]


def tool_use(ask: ChatRequest, renderer: ToolRenderer | None) -> ToolUse | None:
    """How this request uses tools; None where it has none. Raises `ApiError` 400 where the base has none."""
    spoken = any(message.role == "tool" or message.tool_calls for message in ask.messages)
    if not ask.tools and not spoken:
        return None
    spelling = next((one for one in SPELLINGS.values() if renderer and one.sign in renderer.template), None)
    if spelling is None:
        why = "This model's chat template has no form for tools. Leave tools out, or ask for response_format."
        raise ApiError(400, "tools_not_supported", why, "tools" if ask.tools else "messages")
    tools = () if ask.tool_choice == "none" else ask.tools or ()
    constraint = None
    if isinstance(ask.tool_choice, ChosenTool):
        tools = tuple(tool for tool in tools if tool.function.name == ask.tool_choice.function.name)
        if not tools:
            raise ApiError(400, "invalid_value", "tool_choice names a function that is not in tools.", "tool_choice")
    if tools and ask.tool_choice not in (None, "auto", "none"):
        constraint = spelling.forced(tools)
    most = 1 if ask.parallel_tool_calls is False else None
    return ToolUse(spelling, tuple(tool.function.name for tool in tools), constraint, most)


def turns(messages: Sequence[ChatMessage]) -> list[Json]:
    """The conversation as templates read it."""
    found: list[Json] = []
    for message in messages:
        turn: Json = {"role": "system" if message.role == "developer" else message.role, "content": message.text}
        if message.tool_calls:
            turn["tool_calls"] = [
                {"type": "function", "function": {"name": call.function.name, "arguments": _object(call.function)}}
                for call in message.tool_calls
            ]
        if message.tool_call_id is not None:
            turn["tool_call_id"] = message.tool_call_id
        found.append(turn)
    return found


def _object(called: Any) -> Json:
    try:
        arguments = json.loads(called.arguments or "{}")
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise ApiError(400, "invalid_value", f"The arguments of {called.name} are no JSON object.", "messages")
    return arguments


ReadCalls = Callable[[str], tuple[str, list[Json]]]
