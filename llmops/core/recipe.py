"""`Recipe`: what a person intends. No output path, no secret, no device, and no "auto": a knob left out is open."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints, model_validator

from llmops.core.value import Fact, Value

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
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


class PromptReply(Value):
    """Rows of a prompt and the reply to learn."""

    kind: Literal["prompt_reply"] = "prompt_reply"
    prompt: str = Field("prompt", description="column that holds the prompt")
    reply: str = Field("reply", description="column that holds the reply")


class Conversation(Value):
    """Rows that hold a list of {role, content}; the last one is the reply to learn."""

    kind: Literal["conversation"] = "conversation"
    messages: str = Field("messages", description="column that holds the messages")


Shape = Annotated[Labelled | PromptReply | Conversation, Field(discriminator="kind")]


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
    train_rows: int | None = Field(None, ge=1, description="at most this many rows to train on")
    heldout_rows: int | None = Field(None, ge=1, description="at most this many rows held out")


class Data(Value):
    """The rows of a recipe, and how they are dealt into train and held out."""

    sources: tuple[Source, ...] = Field(min_length=1, description="where the rows come from")
    heldout_share: float = Field(0.2, gt=0, lt=1, description="share of the groups that is held out, by content hash")


class Classify(Value):
    """One of a few labels for a text."""

    kind: Literal["classify"] = "classify"
    question: Text = Field(description="put before each text")
    labels: tuple[str, ...] = Field(min_length=2, description="every label; each must occur in the rows")

    @model_validator(mode="after")
    def _labels_differ(self) -> Classify:
        if len({label.strip().lower() for label in self.labels}) != len(self.labels):
            raise ValueError("two labels are the same word")
        if any(not label.strip() for label in self.labels):
            raise ValueError("a label is empty")
        return self


Measure = Literal["bits_per_byte", "pick_reply", "exact_match"]


class Reply(Value):
    """A reply to a conversation."""

    kind: Literal["reply"] = "reply"
    system: str | None = Field(None, description="system prompt put before each conversation; none by default")
    measures: tuple[Measure, ...] = Field(
        ("bits_per_byte",), min_length=1, description="what is measured; the first decides"
    )
    opening: str | None = Field(None, description="field whose equal values give pick_reply its wrong replies")


Task = Annotated[Classify | Reply, Field(discriminator="kind")]


class LoRA(Value):
    """Low-rank adapters on every linear layer of the blocks (Hu et al. 2021, arXiv:2106.09685)."""

    kind: Literal["lora"] = "lora"
    rank: int | None = Field(None, ge=1, le=1024, description="rank of the update")
    alpha: float | None = Field(None, gt=0, description="scale of the update is alpha / rank")
    dropout: float | None = Field(None, ge=0, lt=1, description="dropout before the adapter")


class SFT(Value):
    """Cross-entropy on the reply and its end token, prompts masked."""

    kind: Literal["sft"] = "sft"


Precision = Literal["float32", "bfloat16"]


class Training(Value):
    """Knobs of training; every one may stay open, and `plan` then decides it with a reason."""

    learning_rate: float | None = Field(None, gt=0, le=1, description="peak learning rate of AdamW")
    epochs: float | None = Field(None, gt=0, le=1000, description="passes over the training rows")
    batch_rows: int | None = Field(None, ge=1, le=4096, description="rows in one optimiser step")
    max_tokens: int | None = Field(None, ge=16, le=131072, description="longer rows are dropped, not cut")
    precision: Precision | None = Field(None, description="of the frozen weights; adapters stay in float32")
    seed: int = Field(0, ge=0, description="of initial weights and order of rows")


class Baselines(Value):
    """The cheap rows put beside the tuned model."""

    word_list: str | None = Field(None, description="catalogue name of a list of words with a number each")


class Evaluation(Value):
    """What is measured on the held-out rows besides the task's own score."""

    slices: tuple[str, ...] = Field((), description="fields to report by")
    prompts: tuple[str, ...] = Field((), max_length=64, description="prompts answered by base and tuned side by side")


class Recipe(Fact):
    """What a person intends: rows, a base model, a task, a method. The whole life of a model follows from it."""

    prefix: ClassVar[str] = "rc"

    name: Name
    about: str = Field("", description="one sentence for people")
    base: Text = Field("smollm2-135m-q4", description="catalogue name, path:FOLDER, or hub:ORG/NAME")
    data: Data
    task: Task
    method: LoRA = LoRA()
    objective: SFT = SFT()
    training: Training = Training()
    baselines: Baselines = Baselines()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _parts_fit(self) -> Recipe:
        for source in self.data.sources:
            if source.shape is not None and (source.shape.kind == "labelled") != (self.task.kind == "classify"):
                raise ValueError(
                    f"source {source.from_!r} is {source.shape.kind}, which does not fit task {self.task.kind!r}"
                )
        return self
