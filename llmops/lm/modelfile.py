"""A `Modelfile` for Ollama: the chat template of training in Go's template language."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from llmops.core.dataset import Message
from llmops.core.errors import LlmopsError
from llmops.lm.render import Renderer


@dataclass(frozen=True)
class Turns:
    """A template that says a turn by its role alone: `head` of each role, one `tail`, and what stands before a
    conversation without a system prompt."""

    heads: dict[str, str]
    tail: str
    unopened: str

    def render(self, messages: Sequence[Message]) -> str:
        """A conversation up to where its reply begins: what Ollama makes of `go`."""
        opened = any(message.role == "system" for message in messages)
        turns = "".join(self.heads[message.role] + message.content + self.tail for message in messages)
        return ("" if opened else self.unopened) + turns + self.heads["assistant"]

    def go(self) -> str:
        """The same as a Go template. `{{- ""}}` and the like are not needed: nothing stands between the parts."""
        system, user, assistant = (self.heads[role] for role in ("system", "user", "assistant"))
        opening = f"{{{{ if .System }}}}{system}{{{{ .System }}}}{self.tail}{{{{ else }}}}{self.unopened}{{{{ end }}}}"
        turns = (
            f'{{{{ range .Messages }}}}{{{{ if eq .Role "user" }}}}{user}{{{{ .Content }}}}{self.tail}'
            f'{{{{ else if eq .Role "assistant" }}}}{assistant}{{{{ .Content }}}}{self.tail}{{{{ end }}}}{{{{ end }}}}'
        )
        return f"{opening}{turns}{assistant}"


def turns_of(renderer: Renderer) -> Turns:
    """How a renderer's template says turns. Raises `LlmopsError` where that depends on more than a turn's role."""
    first, to_user, to_assistant, again, _, tail = renderer.around(("system", "user", "assistant", "user", "assistant"))
    bare = renderer.around(("user", "assistant"))[0]
    head = to_user.removeprefix(tail)
    found = Turns(
        {"system": first, "user": head, "assistant": to_assistant.removeprefix(tail)}, tail, bare.removesuffix(head)
    )
    regular = (
        to_user == again and all(part.startswith(tail) for part in (to_user, to_assistant)) and bare.endswith(head)
    )
    if not tail or not regular or '"""' in found.go() or "{{" in first + to_user + to_assistant + bare:
        what = "the base's template says a turn by more than its role, which a Modelfile cannot"
        raise LlmopsError(what, "export it --as gguf-q8_0, and let the program render it by a template of its own")
    return found


def modelfile(renderer: Renderer, gguf: str, opening: Sequence[Message] = ()) -> str:
    """The Modelfile of a GGUF file that lies beside it: greedy, as it was evaluated.

    `opening` is what stood before every conversation in training: nothing, or a system prompt.
    """
    systems = [message.content for message in opening]
    if any('"""' in system for system in systems):
        raise LlmopsError(
            'the system prompt has """ in it, which ends a text in a Modelfile', "export it --as gguf-q8_0"
        )
    ends = [str(renderer.tokenizer.decode([end])) for end in sorted(renderer.end_ids)]
    lines = [f"FROM ./{gguf}", f'TEMPLATE """{turns_of(renderer).go()}"""', "PARAMETER temperature 0"]
    lines += [f'SYSTEM """{system}"""' for system in systems]
    return "\n".join([*lines, *(f"PARAMETER stop {json.dumps(end)}" for end in ends)]) + "\n"
