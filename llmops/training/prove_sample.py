"""What the proofs of training train: a random Llama of two layers with a tokenizer of its own, and made-up rows."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from llmops.core.context import Surroundings
from llmops.core.dataset import Message, Row
from llmops.core.made_up import KNOBS, made_up_plan, made_up_recipe
from llmops.core.method import LoRA
from llmops.core.plan import Plan
from llmops.core.run import Run, RunEvent
from llmops.lm.toy_models import byte_tokenizer, random_llama
from llmops.store.files import read_jsonl, write_jsonl
from llmops.store.workspace import Workspace
from llmops.training.train import STOP_FILE, train

T = TypeVar("T")
RUN = "20260101-proof-000000"
LABELS = ("good", "bad")


@dataclass(frozen=True)
class Sample:
    """A folder that holds a base, rows and a workspace with a run of `plan` in it."""

    folder: Path
    plan: Plan

    @property
    def base(self) -> Path:
        return self.folder / "base"

    @property
    def at(self) -> Workspace:
        return Workspace.find(self.folder / "workspace", environ={})

    @property
    def run_folder(self) -> Path:
        return self.at.run_folder(RUN)

    def rows(self) -> list[Row]:
        return [Row.model_validate(row) for row in read_jsonl(self.folder / "rows.jsonl")]

    def begin(self) -> None:
        """The run, created and not started. Whatever there was of it is removed."""
        shutil.rmtree(self.run_folder, ignore_errors=True)
        knobs = self.plan.knobs
        data = {"name": "proof", "plan": self.plan.id, "dataset": self.plan.dataset, "steps": knobs.steps}
        self.at.add_event(RUN, RunEvent(kind="created", at=self.at.world.clock(), data=data))
        self.at.put(self.plan)

    def train(self, at: Workspace | None = None) -> Run:
        """Start the run, or go on with it, by the plan that it goes by now."""
        workspace = at or self.at
        return train(workspace.get(Plan, workspace.run(RUN).plan), self.rows(), self.base, workspace, RUN)

    def stopped_at(self, step: int) -> Workspace:
        """The workspace, seen by a run that somebody stops in its step `step`."""

        def stopping(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
            for number, item in enumerate(items, 1):
                if what == "training" and number == step:
                    (self.run_folder / STOP_FILE).touch()
                yield item

        return replace(self.at, world=Surroundings(track=stopping))

    def copy(self, folder: Path) -> Sample:
        """The same in another folder, its run included. The base and the rows are shared by links."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder / "workspace", folder / "workspace")
        (folder / "base").symlink_to(self.base)
        (folder / "rows.jsonl").symlink_to(self.folder / "rows.jsonl")
        return Sample(folder, self.plan)


def sample(folder: Path, steps: int = 24, checkpoint_every: int = 3, dropout: float = 0.1) -> Sample:
    """Write a sample. With dropout, so that a wrong random state is seen."""
    write_base(folder / "base")
    write_jsonl(folder / "rows.jsonl", (row.to_json() for row in made_up_rows()))
    made = Sample(folder, sample_plan(steps, checkpoint_every, dropout))
    made.begin()
    return made


def made_up_rows() -> list[Row]:
    """Forty rows: a word that decides, and a number."""
    words = (("kind", "rude"), ("warm", "cold"), ("bright", "dull"))
    found = []
    for number in range(40):
        label = number % 2
        text = f"a {words[number % 3][label]} day, number {number}"
        messages = (Message(role="user", content=text), Message(role="assistant", content=LABELS[label]))
        row = {"id": f"r{number}", "text": text, "label": LABELS[label], "messages": messages}
        found.append(Row.model_validate({**row, "group": str(number), "source": "made up", "line": number + 1}))
    return found


def sample_plan(steps: int, checkpoint_every: int, dropout: float) -> Plan:
    """A plan for those rows. Four of them are watched and the best weights kept, so that what evaluation remembers has
    to survive, too."""
    knobs = KNOBS.replace(
        method=LoRA(rank=2, alpha=4.0, dropout=dropout, rank_stabilised=False, initialisation="default"),
        targets=("q_proj", "down_proj"),
        learning_rate=0.01,
        weight_decay=0.01,
        steps=steps,
        attention="eager",
        decoder="plain" if not dropout else "transformers",
        checkpoint_every=checkpoint_every,
        look_every=4,
        patience=100,
    )
    plan = made_up_plan(made_up_recipe("proof", LABELS), "ds-proof", knobs)
    return plan.replace(watched=tuple(row.id for row in made_up_rows()[-4:]))


def write_base(folder: Path, hidden: int = 32) -> None:
    """A random Llama whose tokens are bytes, the same every time."""
    tokenizer = byte_tokenizer(("<begin>", "<end>"))
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": hidden, "intermediate_size": 2 * hidden, "num_attention_heads": 2, "num_key_value_heads": 1}
    random_llama(0, **sizes, vocab_size=len(tokenizer), initializer_range=0.1).save_pretrained(folder)


def plan_in(folder: Path) -> Sample:
    """The sample that lies in a folder."""
    at = Workspace.find(folder / "workspace", environ={})
    return Sample(folder, at.get(Plan, at.run(RUN).plan))
