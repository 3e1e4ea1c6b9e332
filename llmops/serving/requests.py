"""What may be asked: requests as closed, bounded types. Every field that clients send by default is known here.

A field that changes nothing at its neutral value is taken at that value and refused at any other: an answer that
silently ignores what was asked for is worse than none.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo, model_validator

from llmops.core.serving import Sampling
from llmops.core.value import Value

Json = dict[str, Any]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Short = Annotated[str, StringConstraints(max_length=256)]
ToolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
MOST_CHOICES = 4
MOST_TEXTS = 32
LONGEST_TEXT = 131_072


def _neutral(value: Any, info: ValidationInfo) -> Any:
    if value:
        raise ValueError(f"there is no {info.field_name} here; leave it out")
    return value


NoNumber = Annotated[float | None, AfterValidator(_neutral)]
NoMap = Annotated[Json | None, AfterValidator(_neutral)]


class TextPart(Value):
    """A part of a message's content. There are no images and no audio here."""

    type: Literal["text"]
    text: str


class Called(Value):
    """Which function, with which arguments: JSON in a string, as OpenAI has it."""

    name: ToolName
    arguments: str = Field(max_length=LONGEST_TEXT)


class ToolCall(Value):
    """A call that an earlier answer made."""

    id: Short
    type: Literal["function"] = "function"
    function: Called
    index: int | None = Field(None, description="a client's own; not read")


class ChatMessage(Value):
    """One turn. `developer` is `system`; what an answer carried beside its text may be sent back as it came."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[tuple[TextPart, ...], Field(min_length=1, max_length=256)] | None = None
    name: Short | None = Field(None, description="accepted and not shown to the model")
    tool_calls: Annotated[tuple[ToolCall, ...], Field(max_length=16)] | None = None
    tool_call_id: Short | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[tuple[Json, ...], Field(max_length=0)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> ChatMessage:
        if self.content is None and not self.tool_calls:
            raise ValueError("content is missing")
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only an assistant calls tools")
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise ValueError("a tool's answer, and nothing else, has a tool_call_id")
        return self

    @property
    def text(self) -> str:
        if isinstance(self.content, tuple):
            return "\n".join(part.text for part in self.content)
        return self.content or ""

    @property
    def size(self) -> int:
        """Characters that a template may show."""
        return len(self.text) + sum(len(call.function.arguments) for call in self.tool_calls or ())


class Function(Value):
    """A function that the model may call."""

    name: ToolName
    description: str | None = Field(None, max_length=8192)
    parameters: Json | None = None
    strict: bool | None = None


class Tool(Value):
    """A tool. Functions are the only kind."""

    type: Literal["function"]
    function: Function


class Named(Value):
    """The name of a function."""

    name: ToolName


class ChosenTool(Value):
    """The one function that shall be called."""

    type: Literal["function"]
    function: Named


class PlainFormat(Value):
    """Free text, or any JSON object."""

    type: Literal["text", "json_object"]


class NamedSchema(Value):
    """A JSON schema with the name that OpenAI wants it to have."""

    name: Short = "answer"
    description: str | None = Field(None, max_length=8192)
    schema_: Json = Field(alias="schema")
    strict: bool | None = Field(None, description="always strict here")


class SchemaFormat(Value):
    """An answer that a JSON schema accepts."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


class RegexFormat(Value):
    """An answer that a regular expression matches as a whole. Not OpenAI's; RE2's syntax."""

    type: Literal["regex"]
    pattern: str = Field(min_length=1, max_length=1024)


ResponseFormat = Annotated[PlainFormat | SchemaFormat | RegexFormat, Field(discriminator="type")]


class StreamOptions(Value):
    """What a streamed answer should carry besides text."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = Field(None, description="accepted; nothing is padded here")


class Asked(Value):
    """What both kinds of completion take. Temperature 0 is the default here: the same question, the same answer."""

    model: str = Field(max_length=256)
    max_tokens: int | None = Field(None, ge=1, le=4096)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=0, le=2**31 - 1, description="left out, a fresh one is drawn for temperature > 0")
    stop: Stop | Annotated[tuple[Stop, ...], Field(max_length=4)] | None = None
    n: int | None = Field(None, ge=1, le=MOST_CHOICES)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    frequency_penalty: NoNumber = None
    presence_penalty: NoNumber = None
    logit_bias: NoMap = None
    user: Short | None = Field(None, description="not kept; while a canary runs, one version answers all of a user's")

    @model_validator(mode="after")
    def _usage_of_a_stream(self) -> Asked:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream: true")
        return self

    @property
    def choices(self) -> int:
        return self.n or 1

    @property
    def most_tokens(self) -> int | None:
        return self.max_tokens

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with its counts."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(self, fresh_seed: int) -> Sampling:
        """How the answer is drawn. Where the request names no seed, `fresh_seed` is one, unless nothing is drawn."""
        asked = {
            "max_tokens": self.most_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": fresh_seed if self.seed is None and self.temperature else self.seed,
            "stop": (self.stop,) if isinstance(self.stop, str) else self.stop,
        }
        return Sampling.model_validate({key: value for key, value in asked.items() if value is not None})


class ChatRequest(Asked):
    """`POST /v1/chat/completions`."""

    messages: tuple[ChatMessage, ...] = Field(min_length=1, max_length=256)
    max_completion_tokens: int | None = Field(None, ge=1, le=4096)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    tools: Annotated[tuple[Tool, ...], Field(max_length=32)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ChosenTool | None = None
    parallel_tool_calls: bool | None = Field(None, description="false: at most one call an answer")
    modalities: tuple[Literal["text"]] | None = None
    metadata: Annotated[dict[str, Short], Field(max_length=16)] | None = Field(None, description="not kept")
    store: bool | None = Field(None, description="accepted; what is kept is the server's choice")
    service_tier: Literal["auto", "default"] | None = None
    safety_identifier: Short | None = Field(None, description="not kept; what `user` is, by its newer name")
    prompt_cache_key: Short | None = Field(None, description="accepted; every prompt is cached here")

    @model_validator(mode="after")
    def _fits_together(self) -> ChatRequest:
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError("give max_tokens or max_completion_tokens, not both")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise ValueError("tool_choice needs tools")
        return self

    @property
    def conversation(self) -> str:
        """What stays the same from turn to turn: who asks where that is said, else the first thing that was asked."""
        first = next((message for message in self.messages if message.role == "user"), self.messages[0])
        return self.user or self.safety_identifier or first.text

    @property
    def most_tokens(self) -> int | None:
        return self.max_tokens or self.max_completion_tokens

    @property
    def likeliest(self) -> int | None:
        """How many of the likeliest tokens to tell at each place; None for no log-probabilities at all."""
        return (self.top_logprobs or 0) if self.logprobs else None


class CompletionRequest(Asked):
    """`POST /v1/completions`: running text to go on with, and no template around it."""

    prompt: str | Annotated[tuple[str, ...], Field(min_length=1, max_length=MOST_CHOICES)]
    logprobs: int | None = Field(None, ge=0, le=5)
    echo: Literal[False] | None = None
    suffix: Literal[""] | None = None
    best_of: Literal[1] | None = None
    response_format: ResponseFormat | None = None

    @model_validator(mode="after")
    def _not_too_many(self) -> CompletionRequest:
        if len(self.prompts) * self.choices > MOST_CHOICES:
            raise ValueError(f"prompts times n may be {MOST_CHOICES} at most")
        return self

    @property
    def prompts(self) -> tuple[str, ...]:
        return (self.prompt,) if isinstance(self.prompt, str) else self.prompt

    @property
    def conversation(self) -> str:
        """Who asks where that is said, else the first prompt."""
        return self.user or self.prompts[0]

    @property
    def likeliest(self) -> int | None:
        """How many of the likeliest tokens to tell at each place; None for no log-probabilities at all."""
        return self.logprobs


class ClassifyRequest(Value):
    """`POST /v1/classify`: the label of a text, or of each of several, by a model that was trained to label."""

    model: str = Field(max_length=256)
    input: (
        Annotated[str, StringConstraints(max_length=LONGEST_TEXT)]
        | Annotated[tuple[str, ...], Field(min_length=1, max_length=MOST_TEXTS)]
    )
    abstain_below: float | None = Field(
        None,
        ge=0,
        le=1,
        description="no label below this probability; without it, as the version was registered, and 0 gives every one",
    )
    user: Short | None = Field(None, description="not kept; while a canary runs, one version answers all of a user's")

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.input,) if isinstance(self.input, str) else self.input

    @property
    def conversation(self) -> str:
        """Who asks where that is said, else the first text."""
        return self.user or self.texts[0]


class FeedbackRequest(Value):
    """`POST /v1/feedback`: `exchange` is the `id` of the answer. A label is an edit that is one of the labels."""

    exchange: str = Field(min_length=1, max_length=64)
    thumb: Literal["up", "down"] | None = None
    edit: str | None = Field(None, max_length=LONGEST_TEXT, description="the answer that would have been right")
    label: Short | None = Field(None, description="the label that would have been right")

    @model_validator(mode="after")
    def _says_something(self) -> FeedbackRequest:
        if self.thumb is None and self.edit is None and self.label is None:
            raise ValueError("give a thumb (up or down), an edit, a label, or some of them")
        if self.edit is not None and self.label is not None:
            raise ValueError("give an edit or a label, not both")
        return self
