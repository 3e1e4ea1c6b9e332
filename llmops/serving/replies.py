"""What is answered, in the shapes that OpenAI's clients read: `ChatShape` and `TextShape`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from llmops.serving.engine import TokenChance
from llmops.serving.wire import event

Json = dict[str, Any]
# No JSON number is infinite; this is what OpenAI sends for a token that cannot be.
LOWEST = -9999.0


class Shape(Protocol):
    """How the parts of one completion are spelt. Every part of it has the same `id`, time and model."""

    def choice(self, index: int, said: Said) -> Json:
        """A whole choice."""
        ...

    def opening(self, index: int) -> bytes | None:
        """The event before the first text, where there is one."""
        ...

    def chunk(self, index: int, text: str, chances: Sequence[TokenChance] | None) -> bytes:
        """The event of a piece of text."""
        ...

    def closing(self, index: int, said: Said) -> bytes:
        """The event that ends a choice."""
        ...

    def whole(self, choices: Sequence[Json], usage: Json) -> Json:
        """The body of an answer that is not streamed."""
        ...

    def usage_chunk(self, usage: Json) -> bytes:
        """The last event, where usage was asked for. Its list of choices is empty."""
        ...


class Said:
    """A choice that has ended: its text, why it ended, its calls of tools, and its tokens' chances if asked for."""

    def __init__(
        self,
        text: str,
        finish: str,
        calls: Sequence[Json] = (),
        chances: Sequence[TokenChance] | None = None,
    ) -> None:
        self.text = text
        self.finish = "tool_calls" if calls and finish == "stop" else finish
        self.calls = list(calls)
        self.chances = chances


class _Head:
    """What both shapes share. `model` is what was asked for; the fingerprint says which version answered.

    `streamed` is the name of the object in a stream.
    """

    kind = ""
    streamed = ""

    def __init__(self, id: str, model: str, version: str, created: int) -> None:
        self._head = {"id": id, "created": created, "model": model, "system_fingerprint": version}

    def whole(self, choices: Sequence[Json], usage: Json) -> Json:
        return {**self._head, "object": self.kind, "choices": list(choices), "usage": usage}

    def usage_chunk(self, usage: Json) -> bytes:
        return event({**self._head, "object": self.streamed, "choices": [], "usage": usage})

    def _event(self, choice: Json) -> bytes:
        return event({**self._head, "object": self.streamed, "choices": [choice]})


class ChatShape(_Head):
    """`chat.completion`."""

    kind = "chat.completion"
    streamed = "chat.completion.chunk"

    def choice(self, index: int, said: Said) -> Json:
        message: Json = {"role": "assistant", "content": said.text, "refusal": None}
        if said.calls:
            message = {**message, "content": said.text or None, "tool_calls": said.calls}
        logprobs = None if said.chances is None else _chat_logprobs(said.chances)
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": said.finish}

    def opening(self, index: int) -> bytes:
        return self._delta(index, {"role": "assistant", "content": ""})

    def chunk(self, index: int, text: str, chances: Sequence[TokenChance] | None) -> bytes:
        return self._delta(index, {"content": text}, None if chances is None else _chat_logprobs(chances))

    def closing(self, index: int, said: Said) -> bytes:
        calls = [{"index": place, **call} for place, call in enumerate(said.calls)]
        return self._delta(index, {"tool_calls": calls} if calls else {}, finish=said.finish)

    def _delta(self, index: int, delta: Json, logprobs: Json | None = None, finish: str | None = None) -> bytes:
        return self._event({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish})


class TextShape(_Head):
    """`text_completion`, streamed and whole alike."""

    kind = streamed = "text_completion"

    def choice(self, index: int, said: Said) -> Json:
        return self._choice(index, said.text, said.chances, said.finish)

    def opening(self, index: int) -> None:
        return None

    def chunk(self, index: int, text: str, chances: Sequence[TokenChance] | None) -> bytes:
        return self._event(self._choice(index, text, chances, None))

    def closing(self, index: int, said: Said) -> bytes:
        return self._event(self._choice(index, "", None, said.finish))

    def _choice(self, index: int, text: str, chances: Sequence[TokenChance] | None, finish: str | None) -> Json:
        logprobs = None if chances is None else _text_logprobs(chances)
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}


def _chat_logprobs(chances: Sequence[TokenChance]) -> Json:
    content = [{**_spelt(one), "top_logprobs": [_spelt(other) for other in one.likeliest]} for one in chances]
    return {"content": content, "refusal": None}


def _spelt(one: TokenChance) -> Json:
    return {"token": one.text, "logprob": max(one.logprob, LOWEST), "bytes": list(one.raw)}


def _text_logprobs(chances: Sequence[TokenChance]) -> Json:
    offsets, at = [], 0
    for one in chances:
        offsets.append(at)
        at += len(one.text)
    return {
        "tokens": [one.text for one in chances],
        "token_logprobs": [max(one.logprob, LOWEST) for one in chances],
        "top_logprobs": [{other.text: max(other.logprob, LOWEST) for other in one.likeliest} for one in chances],
        "text_offset": offsets,
    }


def usage(prompt_tokens: int, answer_tokens: int) -> Json:
    """OpenAI's counts."""
    total = prompt_tokens + answer_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": answer_tokens, "total_tokens": total}
