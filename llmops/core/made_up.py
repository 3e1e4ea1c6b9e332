"""A plan made by hand, for proofs and tests: no machine is looked at, so that it is the same everywhere."""

from __future__ import annotations

from llmops.core.method import SFT, LoRA
from llmops.core.plan import BaseModelRecord, Decision, Knobs, Plan, leaves
from llmops.core.recipe import Recipe
from llmops.core.sources import Data, Labelled, Source
from llmops.core.tasks import Classify

KNOBS = Knobs(
    method=LoRA(rank=2, alpha=4.0, dropout=0.0, rank_stabilised=False, initialisation="default"),
    objective=SFT(roles=()),
    targets=("q_proj",),
    learning_rate=0.001,
    schedule="linear",
    warmup_share=0.1,
    weight_decay=0.0,
    clip_norm=1.0,
    epochs=1.0,
    batch_rows=4,
    steps=4,
    max_tokens=64,
    precision="float32",
    gradient_checkpointing=False,
    attention="sdpa",
    decoder="plain",
    template="plain",
    device="cpu",
    threads=1,
    processes=1,
    shard="none",
    pack_tokens=128,
    max_memory_bytes=2**60,
    checkpoint_every=4,
    look_every=0,
    patience=0,
    tracker="none",
    seed=0,
)
BASE = BaseModelRecord(name="made-up", sha256="0" * 64, family="llama", parameters=1)


def made_up_recipe(name: str, labels: tuple[str, ...]) -> Recipe:
    """A recipe that tells labels apart; there are no such rows."""
    source = Source(from_="path:rows.csv", shape=Labelled())
    return Recipe(name=name, data=Data(sources=(source,)), task=Classify(question="Good or bad?", labels=labels))


def made_up_plan(recipe: Recipe, dataset: str, knobs: Knobs = KNOBS, base: BaseModelRecord = BASE) -> Plan:
    """A plan with these knobs, every one of them a decision."""
    return Plan(
        recipe=recipe,
        dataset=dataset,
        base=base,
        knobs=knobs,
        decisions=tuple(Decision(field=field, value=value, because="made up") for field, value in leaves(knobs)),
        train_tokens=1,
        seconds_expected=1.0,
        memory_bytes_expected=1,
    )
