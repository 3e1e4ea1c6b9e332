"""What a base sees of rows: probes, kept in the workspace, with what they cost; and how long one answer takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import TYPE_CHECKING, Any

from llmops.core.dataset import Message, Row
from llmops.core.plan import Plan
from llmops.core.serving import Sampling
from llmops.core.tasks import Classify
from llmops.core.value import digest
from llmops.store.files import read_json, write_json, writing
from llmops.store.workspace import Workspace

if TYPE_CHECKING:
    from llmops.lm.model import LocalModel
    from llmops.lm.ports import Probe

TIMED = 8  # answers, one by one
Prompt = Sequence[Message]


@dataclass
class View:
    """The base of a plan, loaded when it is first needed, and its probes."""

    plan: Plan
    at: Workspace

    @cached_property
    def model(self) -> LocalModel:
        """The bare base, in the plan's precision."""
        from llmops.planning.bases import open_model

        return open_model(self.plan, None, self.at.world)

    def probe(self, rows: Sequence[Row]) -> tuple[Probe, float]:
        """(the base's view of the rows, the seconds that it took when it was made).

        Kept in the workspace by what was asked of whom, so that no row is read twice.
        """
        from safetensors.numpy import load_file, save_file

        from llmops.lm.ports import Probe

        task = self.plan.recipe.task
        labels = task.labels if isinstance(task, Classify) else ("0",)  # of a number only the state is wanted
        prompts = [row.prompt for row in rows]
        who = [self.plan.base.sha256, self.plan.knobs.precision, self.plan.knobs.template, self.plan.knobs.decoder]
        spoken = [[(message.role, message.content) for message in prompt] for prompt in prompts]
        path = self.at.root / "probes" / f"{digest([who, labels, spoken])[:16]}.safetensors"
        if not path.exists():
            began = time.perf_counter()
            made = self.model.probe(prompts, labels, self.at.world.track)
            seconds = time.perf_counter() - began
            write_json(path.with_suffix(".json"), {"seconds": seconds, "base": self.plan.base.name, "rows": len(rows)})
            path.parent.mkdir(parents=True, exist_ok=True)
            with writing(path) as draft:
                save_file({"logprobs_NK": made.logprobs_NK, "hidden_ND": made.hidden_ND}, draft)
        arrays = load_file(path)
        return Probe(arrays["logprobs_NK"], arrays["hidden_ND"]), float(read_json(path.with_suffix(".json"))["seconds"])

    def latency_s(self, rows: Sequence[Row]) -> float:
        """Seconds of one answer by itself."""
        return one_by_one(asker(self.model, self.plan), rows)


def asker(model: LocalModel, plan: Plan) -> Callable[[Row], Any]:
    """How a model is asked one row: for a label's likelihood, or for what it says."""
    task = plan.recipe.task
    if isinstance(task, Classify):
        return lambda row: model.probe([row.prompt], task.labels)
    return lambda row: model.reply([row.prompt], Sampling(max_tokens=24))


def one_by_one(ask: Callable[[Row], object], rows: Sequence[Row]) -> float:
    """The median seconds of some answers, each asked by itself; the first one warms up and is not counted."""
    spent = []
    for row in [rows[0], *rows[:TIMED]]:
        began = time.perf_counter()
        ask(row)
        spent.append(time.perf_counter() - began)
    return float(median(spent[1:]))


def held_bytes(model: LocalModel) -> int:
    """The bytes of a model's weights, adapters included."""
    return sum(part.numel() * part.element_size() for part in model.weights.parameters())
