"""What the proofs of training train: a random Llama of two layers with a tokenizer of its own, and made-up rows."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from llmops.core.context import Surroundings
from llmops.core.dataset import Message, Row
from llmops.core.method import SFT, LoRA
from llmops.core.plan import BaseModelRecord, Decision, Knobs, Plan, leaves
from llmops.core.recipe import Recipe
from llmops.core.run import Run, RunEvent
from llmops.core.sources import Data, Labelled, Source
from llmops.core.tasks import Classify
from llmops.lm.base import quiet_libraries
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
    """A plan for those rows, made by hand: no machine is looked at, so that it is the same everywhere.

    Four rows are watched and the best weights kept, so that what evaluation remembers has to survive, too.
    """
    source = Source(from_="path:rows.csv", shape=Labelled())
    recipe = Recipe(name="proof", data=Data(sources=(source,)), task=Classify(question="Good or bad?", labels=LABELS))
    knobs = Knobs(
        method=LoRA(rank=2, alpha=4.0, dropout=dropout, rank_stabilised=False, initialisation="default"),
        objective=SFT(roles=()),
        targets=("q_proj", "down_proj"),
        learning_rate=0.01,
        schedule="linear",
        warmup_share=0.1,
        weight_decay=0.01,
        clip_norm=1.0,
        epochs=1.0,
        batch_rows=4,
        steps=steps,
        max_tokens=64,
        precision="float32",
        gradient_checkpointing=False,
        attention="eager",
        decoder="plain" if not dropout else "transformers",
        template="plain",
        device="cpu",
        threads=1,
        processes=1,
        shard="none",
        pack_tokens=128,
        max_memory_bytes=2**60,
        checkpoint_every=checkpoint_every,
        look_every=4,
        patience=100,
        tracker="none",
        seed=0,
    )
    return Plan(
        recipe=recipe,
        dataset="ds-proof",
        base=BaseModelRecord(name="proof", sha256="0" * 64, family="llama", parameters=1),
        knobs=knobs,
        decisions=tuple(Decision(field=name, value=value, because="for the proof") for name, value in leaves(knobs)),
        train_tokens=1,
        watched=tuple(row.id for row in made_up_rows()[-4:]),
        seconds_expected=1.0,
        memory_bytes_expected=1,
    )


def write_base(folder: Path, hidden: int = 32) -> None:
    """A random Llama whose tokens are bytes, the same every time."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    quiet_libraries()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<end>", "<begin>", *letters])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<begin>", eos_token="<end>")
    wrapped.save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            initializer_range=0.1,
        )
        LlamaForCausalLM(config).save_pretrained(folder)


def plan_in(folder: Path) -> Sample:
    """The sample that lies in a folder."""
    at = Workspace.find(folder / "workspace", environ={})
    return Sample(folder, at.get(Plan, at.run(RUN).plan))
