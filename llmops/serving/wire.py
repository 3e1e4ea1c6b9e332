"""What goes over the wire: requests as closed, bounded types, and answers in the shapes that OpenAI's clients read."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError, model_validator
from starlette.responses import Response

from llmops.core.dataset import Message
from llmops.core.serving import Sampling
from llmops.core.value import Value

Stop = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Json = dict[str, Any]


class ApiError(Exception):
    """A refusal with its HTTP status, OpenAI's error code and the field that is to blame."""

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param

    def body(self) -> Json:
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


class StreamOptions(Value):
    """What a streamed answer should carry besides text."""

    include_usage: bool = False


class ChatRequest(Value):
    """`POST /v1/chat/completions`. Temperature 0 is the default here, so that the same question has the same answer."""

    model: str = Field(max_length=256)
    messages: tuple[Message, ...] = Field(min_length=1, max_length=256)
    max_tokens: int | None = Field(None, ge=1, le=4096)
    max_completion_tokens: int | None = Field(None, ge=1, le=4096)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=0, le=2**31 - 1)
    stop: Stop | Annotated[tuple[Stop, ...], Field(max_length=4)] | None = None
    n: Literal[1] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = Field(None, max_length=256, description="accepted and not kept")

    @model_validator(mode="after")
    def _one_limit(self) -> ChatRequest:
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError("give max_tokens or max_completion_tokens, not both")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream: true")
        return self

    def sampling(self) -> Sampling:
        """How the answer is drawn; what was left out is `Sampling`'s default."""
        asked = {
            "max_tokens": self.max_tokens or self.max_completion_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "stop": (self.stop,) if isinstance(self.stop, str) else self.stop,
        }
        return Sampling.model_validate({key: value for key, value in asked.items() if value is not None})


class FeedbackRequest(Value):
    """`POST /v1/feedback`: `exchange` is the `id` of the completion."""

    exchange: str = Field(min_length=1, max_length=64)
    thumb: Literal["up", "down"] | None = None
    edit: str | None = Field(None, max_length=131_072, description="the answer that the person would have wanted")

    @model_validator(mode="after")
    def _says_something(self) -> FeedbackRequest:
        if self.thumb is None and self.edit is None:
            raise ValueError("give a thumb (up or down), an edit, or both")
        return self


def invalid(error: ValidationError) -> ApiError:
    """The first thing that is wrong with a request, with the field that it stands in."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return ApiError(400, "invalid_value", f"{place}: {first['msg']}" if place else first["msg"], place or None)


class Completion:
    """One answer in OpenAI's shapes. `id` is also the id of its exchange."""

    def __init__(self, id: str, model: str, created: int) -> None:
        self.id = id
        self._head = {"id": id, "created": created, "model": model}

    def whole(self, text: str, finish: str, usage: Json) -> Json:
        """The body of an answer that is not streamed."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": usage}

    def chunk(self, delta: Json, finish: str | None = None) -> bytes:
        """One server-sent event with a part of the answer."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event({**self._head, "object": "chat.completion.chunk", "choices": [choice]})

    def usage_chunk(self, usage: Json) -> bytes:
        """The last event where `include_usage` was asked for."""
        return event({**self._head, "object": "chat.completion.chunk", "choices": [], "usage": usage})


def usage(prompt_tokens: int, answer_tokens: int) -> Json:
    """OpenAI's counts."""
    total = prompt_tokens + answer_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": answer_tokens, "total_tokens": total}


def event(data: Json) -> bytes:
    """A server-sent event. ASCII only: no reader can take U+2028 for the end of a line."""
    return b"data: " + json.dumps(data, separators=(",", ":")).encode("ascii") + b"\n\n"


DONE = b"data: [DONE]\n\n"


class AsciiJSON(Response):
    """JSON in ASCII: there is no text that it cannot encode."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False).encode("ascii")
