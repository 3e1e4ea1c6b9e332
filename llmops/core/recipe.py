"""`Recipe`: what a person intends. No output path, no secret, no device, and no "auto": a knob left out is open."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints, model_validator

from llmops.core.method import SFT, SHAPES_FOR, LoRA, Method, Objective, Training
from llmops.core.sources import Data, Text
from llmops.core.tasks import SHAPES_OF, Task
from llmops.core.value import Fact, Value

CAN_HOLD_CANARIES = frozenset({("reply", "sft"), ("continue", "sft")})
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]


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
    method: Method = LoRA()
    objective: Objective = SFT()
    training: Training = Training()
    baselines: Baselines = Baselines()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _parts_fit(self) -> Recipe:
        for source in self.data.sources:
            if source.shape is not None and source.shape.kind not in SHAPES_OF[self.task.kind]:
                raise ValueError(
                    f"source {source.from_!r} is {source.shape.kind}, which does not fit task {self.task.kind!r}"
                )
            if source.shape is not None and source.shape.kind not in SHAPES_FOR[self.objective.kind]:
                raise ValueError(
                    f"source {source.from_!r} is {source.shape.kind}, which does not fit objective "
                    f"{self.objective.kind!r}"
                )
        if self.objective.kind != "sft" and self.task.kind != "reply":
            raise ValueError(
                f"objective {self.objective.kind!r} compares replies, and task {self.task.kind!r} has none"
            )
        if self.data.canaries is not None and (self.task.kind, self.objective.kind) not in CAN_HOLD_CANARIES:
            raise ValueError("canaries are texts to learn: they need task 'reply' or 'continue', and objective 'sft'")
        return self
