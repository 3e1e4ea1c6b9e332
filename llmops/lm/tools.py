"""`ToolRenderer`: a conversation with tools to token ids, by the base's own template.

As in `render.py`, a marker stands for each content, and contents are tokenised without control tokens. What a template
writes itself, the tools and their calls among it, is tokenised with them; so these may hold none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from llmops.core.errors import LlmopsError
from llmops.lm.render import MARKER, Renderer

Json = dict[str, Any]
PROBE = {
    "type": "function",
    "function": {"name": "zq_probe", "description": "a probe", "parameters": {"type": "object", "properties": {}}},
}


class ToolRenderer:
    """Renders with tools. Make it with `tool_renderer`, which knows whether a base has a form for them."""

    def __init__(self, renderer: Renderer) -> None:
        self.template = str(renderer.tokenizer.chat_template)
        self._renderer = renderer
        self._control = tuple(sorted({*renderer.tokenizer.all_special_tokens, *renderer.tokenizer.get_added_vocab()}))

    def prompt_ids(self, turns: Sequence[Json], tools: Sequence[Json]) -> list[int]:
        """Token ids up to where a reply begins. Raises `LlmopsError` where the template refuses the conversation."""
        written = json.dumps([tools, [turn.get("tool_calls") for turn in turns]], ensure_ascii=False)
        if typed := next((token for token in self._control if token in written), None):
            raise LlmopsError(f"a tool or a call holds the control token {typed!r}.", "Spell it in another way.")
        contents = [turn["content"] for turn in turns if turn["content"]]
        text = self._render(turns, tools)
        parts = MARKER.split(text)
        if [int(index) for index in parts[1::2]] != list(range(len(contents))):
            raise LlmopsError("the base's template drops or repeats a message.", "Use a base whose template keeps all.")
        ids: list[int] = []
        for place, part in enumerate(parts):
            ids += self._renderer.content_ids(contents[int(part)]) if place % 2 else self._renderer.control_ids(part)
        return ids

    def _render(self, turns: Sequence[Json], tools: Sequence[Json]) -> str:
        marked, count = [], 0
        for turn in turns:
            marked.append({**turn, "content": f"\ue000{count}\ue001" if turn["content"] else ""})
            count += bool(turn["content"])
        try:
            return str(
                self._renderer.tokenizer.apply_chat_template(
                    marked, tools=list(tools) or None, tokenize=False, add_generation_prompt=True
                )
            )
        except Exception as error:  # templates raise what they like
            raise LlmopsError(f"the base's template refuses it: {error}.", "Change the roles.") from error


def tool_renderer(renderer: Renderer) -> ToolRenderer | None:
    """A renderer of tools; None where the base's template does not show them."""
    if renderer.template != "base":
        return None
    made = ToolRenderer(renderer)
    try:
        shown = made._render([{"role": "user", "content": "x"}], [PROBE])
    except LlmopsError:
        return None
    return made if "zq_probe" in shown else None
