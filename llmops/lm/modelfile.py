"""A `Modelfile` for Ollama: the chat template of training in Go's template language."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
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

    def go(self) -> str:
        """It as a Go template: a conversation up to where its reply begins.

        `{{- ""}}` and the like are not needed: nothing stands between the parts.
        """
        system, user, assistant = (self.heads[role] for role in ("system", "user", "assistant"))
        opening = f"{{{{ if .System }}}}{system}{{{{ .System }}}}{self.tail}{{{{ else }}}}{self.unopened}{{{{ end }}}}"
        turns = (
            f'{{{{ range .Messages }}}}{{{{ if eq .Role "user" }}}}{user}{{{{ .Content }}}}{self.tail}'
            f'{{{{ else if eq .Role "assistant" }}}}{assistant}{{{{ .Content }}}}{self.tail}{{{{ end }}}}{{{{ end }}}}'
        )
        return f"{opening}{turns}{assistant}"


# A Modelfile's template, and the actions of Go's template language that `Turns.go` writes.
TEMPLATE = re.compile(r'^TEMPLATE """(.*?)"""$', re.DOTALL | re.MULTILINE)
OPENING = re.compile(r"\{\{ if \.System \}\}(.*?)\{\{ else \}\}(.*?)\{\{ end \}\}", re.DOTALL)
RANGE = re.compile(r"\{\{ range \.Messages \}\}(.*)\{\{ end \}\}\{\{ end \}\}", re.DOTALL)
# Where a content goes, in characters that no template has (private use), until all else is in its place.
CONTENT = "\ue000{}\ue001"
PLACE = re.compile("\ue000(\\d+)\ue001")
BRANCH = re.compile(r'\{\{ (?:else )?if eq \.Role "(\w+)" \}\}(.*?)(?=\{\{ else if|\Z)', re.DOTALL)


def rendered(modelfile: str, messages: Sequence[Message]) -> str:
    """What Go makes of the template that stands in a Modelfile: read from the file, not from what was meant.

    Knows the actions that `Turns.go` writes, no others. Raises `LlmopsError` where one is left over.
    """
    found = TEMPLATE.search(modelfile)
    template = found[1] if found else ""
    branches = {role: turn for inner in RANGE.findall(template) for role, turn in BRANCH.findall(inner)}
    system = next((message.content for message in messages if message.role == "system"), "")
    said = "".join(
        branches.get(message.role, "").replace("{{ .Content }}", CONTENT.format(place))
        for place, message in enumerate(messages)
    )
    text = RANGE.sub(lambda _: said, OPENING.sub(lambda match: match[1 if system else 2], template))
    if not found or "{{" in text.replace("{{ .System }}", ""):
        raise LlmopsError("the Modelfile's template is not one that llmops writes", "export the version again")
    text = text.replace("{{ .System }}", system)
    return PLACE.sub(lambda match: messages[int(match[1])].content, text)


def differing(renderer: Renderer, modelfile: str, prompts: Iterable[Sequence[Message]]) -> int:
    """How many prompts are other tokens where a program renders them by the Modelfile and tokenises the whole text."""
    return sum(renderer.control_ids(rendered(modelfile, prompt)) != renderer.prompt_ids(prompt) for prompt in prompts)


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
