"""`Plan`: what exactly will run on this machine, and why each number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from llmops.core.method import Method, Objective, Precision, Schedule, Shard
from llmops.core.recipe import Recipe
from llmops.core.value import Fact, Value

Decoder = Literal["compiled", "plain", "transformers"]
Scalar = str | int | float | bool | tuple[str, ...]


class Wishes(Value):
    """Machine matters, kept out of the recipe: what the person asked of this one machine."""

    device: str | None = Field(None, pattern=r"^(cpu|cuda(:\d+)?)$", description="cpu, cuda or cuda:N")
    threads: int | None = Field(None, ge=1, description="threads of the processor")
    max_memory_gb: float | None = Field(None, gt=0, description="memory that training may take")
    processes: int | None = Field(None, ge=1, le=4096, description="processes that train together")
    tracker: str | None = Field(None, description="a tool that shows the records too: NAME, or NAME=WHERE")
    budget_s: float | None = Field(None, gt=0, description="seconds that training should take at most")


class Machine(Value):
    """This machine as `plan` saw it, once."""

    processor: str
    cores: int
    memory_bytes: int
    free_bytes: int
    device: str = Field(description="cpu or cuda")
    float32_flops: float = Field(description="measured rate of a matrix product, operations a second")
    bfloat16_flops: float = Field(description="the same in bfloat16; 0 where the processor has no instructions for it")
    compiler: str = Field("", description="the C compiler that can build the kernels of the fast decoder, if any")
    pairs: bool = Field(False, description="whether its kernels do attention in bfloat16 too, which keeps no shares")


class Knobs(Value):
    """Everything that training reads. Nothing is open here, not in the method nor in the objective either."""

    method: Method
    objective: Objective
    targets: tuple[str, ...] = Field(description="names of the linear layers that get an adapter; () where none does")
    learning_rate: float
    schedule: Schedule
    warmup_share: float
    weight_decay: float
    clip_norm: float
    epochs: float
    batch_rows: int
    steps: int
    max_tokens: int
    precision: Precision
    gradient_checkpointing: bool
    attention: Literal["eager", "sdpa"] = Field(description="of transformers' forward pass, where that is the decoder")
    decoder: Decoder = Field(description="who computes a pack: ours with kernels in C, ours in torch, or transformers")
    template: str = Field(description="base: its own chat template; plain: ours, for a base without one")
    device: str
    threads: int = Field(description="of each process")
    processes: int = Field(description="that share each batch; their gradients are summed")
    shard: Shard
    pack_tokens: int = Field(description="most tokens that go through the model at once; memory grows with it")
    max_memory_bytes: int = Field(description="what the processes may hold in all")
    checkpoint_every: int
    look_every: int = Field(description="steps between looks at the watched rows; 0: never")
    patience: int = Field(description="looks without a better loss before training stops; 0: never, the last is kept")
    tracker: str = Field(description="a tool that shows the records too, NAME or NAME=WHERE; none")
    seed: int

    @model_validator(mode="after")
    def _nothing_is_open(self) -> Knobs:
        for field, value in leaves(self):
            if value is None:
                raise ValueError(f"knob {field!r} is open")
        return self


def leaves(value: Value, within: str = "") -> Iterator[tuple[str, Scalar | None]]:
    """Each knob by its dotted name, `method.rank`; a choice among types goes by its own: `method` is `lora`."""
    for field, part in value:
        name = within.rstrip(".") if field == "kind" else f"{within}{field}"
        if isinstance(part, Value):
            yield from leaves(part, f"{name}.")
        else:
            yield name, part


class Decision(Value):
    """One resolved knob: its value, and the sentence that says why."""

    field: str
    value: Scalar
    because: str


class BaseModelRecord(Value):
    """The base model as it was found: the name in the recipe, the pin, and its size."""

    name: str
    sha256: str
    family: str
    parameters: int
    licence: str | None = None


class AdapterRecord(Value):
    """An adapter that training starts from, as it was found: its version or path, and the sha256 of its tensors."""

    name: str
    sha256: str


class Plan(Fact):
    """A recipe, its rows and its base, with every open knob resolved. Only a plan can be trained."""

    prefix: ClassVar[str] = "pl"

    recipe: Recipe
    dataset: str = Field(description="id of the DatasetManifest")
    base: BaseModelRecord
    knobs: Knobs
    decisions: tuple[Decision, ...]
    start: AdapterRecord | None = Field(None, description="where training starts; None: at the bare base")
    train_tokens: int = Field(description="real tokens in one pass")
    left_out: tuple[str, ...] = Field((), description="ids of training rows longer than max_tokens; never cut")
    watched: tuple[str, ...] = Field((), description="ids of the rows whose loss is looked at; none of them is learned")
    seconds_expected: float
    memory_bytes_expected: int
    replaces: str | None = Field(None, description="the plan that this one shrank")

    @model_validator(mode="after")
    def _every_knob_is_decided(self) -> Plan:
        decided = {decision.field: decision.value for decision in self.decisions}
        for field, value in leaves(self.knobs):
            if field not in decided:
                raise ValueError(f"knob {field!r} has no decision")
            if decided[field] != value:
                raise ValueError(f"knob {field!r} is {value!r}, but its decision says {decided[field]!r}")
        return self
