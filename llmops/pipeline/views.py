"""What a base sees of rows: probes, kept in the workspace, with what they cost; and how long one answer takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from llmops.core.dataset import Message, Row
from llmops.core.plan import Plan
from llmops.core.serving import Sampling
from llmops.core.tasks import Classify
from llmops.core.value import digest
from llmops.pipeline.subjects import STATE_ONLY
from llmops.store.files import read_json, write_json, writing
from llmops.store.workspace import Workspace

if TYPE_CHECKING:
    from llmops.lm.model import LocalModel
    from llmops.lm.ports import Probe

TIMED = 8  # answers, one by one
Prompt = Sequence[Message]


class Seen(NamedTuple):
    """What a base saw of one row: log-probability of each label, K; last hidden state, D; its share of the seconds."""

    logprobs_K: np.ndarray
    hidden_D: np.ndarray
    seconds: float


@dataclass
class View:
    """The base of a plan, loaded when it is first needed, and its probes. `known` is what was seen, by row."""

    plan: Plan
    at: Workspace
    known: dict[str, Seen] = field(default_factory=dict)

    @cached_property
    def model(self) -> LocalModel:
        """The bare base, in the plan's precision."""
        from llmops.planning.bases import open_model

        return open_model(self.plan, None, self.at.world)

    def probe(self, rows: Sequence[Row]) -> tuple[Probe, float]:
        """(the base's view of the rows, the seconds that reading them took, now or when it was done).

        Kept in the workspace by what was asked of whom, so that no row is read twice.
        """
        from llmops.lm.ports import Probe

        labels = self._labels
        names = [digest([self._who, [(message.role, message.content) for message in row.prompt]])[:32] for row in rows]
        if not self.known:
            self.known.update(self._kept())
        new = {name: row for name, row in zip(names, rows, strict=True) if name not in self.known}
        if new:
            self.known.update(self._read(new, labels))
        seen = [self.known[name] for name in names]
        logprobs_NK, hidden_ND = np.array([one.logprobs_K for one in seen]), np.array([one.hidden_D for one in seen])
        return Probe(logprobs_NK, hidden_ND), sum(one.seconds for one in seen)

    @property
    def _labels(self) -> tuple[str, ...]:
        task = self.plan.recipe.task
        return task.labels if isinstance(task, Classify) else STATE_ONLY

    @cached_property
    def _who(self) -> str:
        """Who reads, and what is asked: a name for everything that a probe depends on but the row."""
        knobs = self.plan.knobs
        parts = [self.plan.base.sha256, knobs.precision, knobs.template, knobs.decoder, self._labels]
        return digest(parts)[:16]

    @property
    def _folder(self) -> Path:
        return self.at.root / "probes" / self._who

    def _kept(self) -> dict[str, Seen]:
        """What was read before, in whatever pieces."""
        found: dict[str, Seen] = {}
        for path in sorted(self._folder.glob("*.json")):
            found |= _pieces(path, read_json(path))
        return found

    def _read(self, new: dict[str, Row], labels: Sequence[str]) -> dict[str, Seen]:
        """Read rows that are not known, and keep what was seen. The list of names is written last."""
        from safetensors.numpy import save_file

        began = time.perf_counter()
        made = self.model.probe([row.prompt for row in new.values()], labels, self.at.world.track)
        seconds = np.array([time.perf_counter() - began])
        path = self._folder / f"{digest(list(new))[:16]}.json"
        with writing(path.with_suffix(".safetensors")) as draft:
            save_file({"logprobs_NK": made.logprobs_NK, "hidden_ND": made.hidden_ND, "seconds": seconds}, draft)
        write_json(path, list(new))
        return _pieces(path, list(new))

    def latency_s(self, rows: Sequence[Row]) -> float:
        """Seconds of one answer by itself."""
        return one_by_one(asker(self.model, self.plan), rows)


def _pieces(path: Path, names: Sequence[str]) -> dict[str, Seen]:
    """What one file holds, by row."""
    from safetensors.numpy import load_file

    arrays = load_file(path.with_suffix(".safetensors"))
    each_s = float(arrays["seconds"][0]) / len(names)
    rows = zip(names, arrays["logprobs_NK"], arrays["hidden_ND"], strict=True)
    return {name: Seen(logprobs_K, hidden_D, each_s) for name, logprobs_K, hidden_D in rows}


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
