"""Training SmolLM2-135M with LoRA, beside TRL's `SFTTrainer`: tokens a second, memory, losses, and the ceiling.

The same rows, adapter, batches, learning rates and steps on every side, each in a process of its own. Rows are this
repository's own text, cut to 50 to 300 tokens or to 1,024, the second half of each learned; and those of two recipes,
which begin alike. `default` is TRL as it comes, environment included; `float32` the same without bfloat16 and
checkpointing, as it came before; `tuned` is TRL by hand: frozen weights in bfloat16, rows grouped by length (it gets
our batches), no gradient checkpointing, and the environment that our command line sets. The reference is transformers
in float32. The first step of each warms up and does not count. Prints one JSON line a figure. Names of cases as
arguments leave the others out.
"""

from __future__ import annotations

import importlib
import itertools
import json
import math
import os
import platform
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.places import PEERS, ROOT

THEIRS = Path(__file__).with_name("_train_with_trl.py")
BASE = "smollm2-135m-q4"
RANK, RATE, BATCH = 8, 1e-3, 8
BFLOAT16_ROUNDING = 2.0**-8


@dataclass(frozen=True)
class Side:
    """What one process found."""

    losses: list[float]
    step_s: list[float]
    tokens: list[int]
    peak_bytes: int
    flops: Sequence[float] = ()  # of a large square product, before each step and after the last

    @property
    def tokens_per_s(self) -> float:
        """Real tokens a second, the first step left out."""
        return sum(self.tokens[1 : len(self.step_s)]) / sum(self.step_s[1:])

    def share(self, batches: Sequence[Sequence[int]]) -> float:
        """Of the operations that the machine could have done meanwhile, those that the rows' lengths ask for.

        Beside each step stands the rate measured before and after it, because a rented machine's wanders by a tenth.
        """
        rates = [(before + after) / 2 for before, after in itertools.pairwise(self.flops)]
        could = sum(seconds * rate for seconds, rate in zip(self.step_s[1:], rates[1:], strict=True))
        return sum(operations(lengths) for lengths in batches[1:]) / could


def ours(job: dict[str, Any]) -> Side:
    """Train with our own loop, in this process."""
    import torch

    from llmops.core.context import Surroundings
    from llmops.core.method import SFT, LoRA
    from llmops.core.plan import Knobs
    from llmops.lm.adapters import linear_names
    from llmops.lm.lessons import Lesson
    from llmops.lm.machine import measure_flops, peak_memory_bytes
    from llmops.lm.render import Example
    from llmops.planning.bases import open_base
    from llmops.training import loop
    from llmops.training.losses import Batch

    base = open_base(BASE, Surroundings()).folder
    torch.set_num_threads(job["threads"])
    knobs = Knobs.model_validate(
        {
            "method": LoRA(
                rank=RANK, alpha=2.0 * RANK, dropout=0.0, rank_stabilised=False, initialisation="default"
            ),
            "objective": SFT(roles=()), "targets": linear_names(base), "gradient_checkpointing": False,
            "learning_rate": RATE, "schedule": "linear", "warmup_share": 0.0, "weight_decay": 0.0, "clip_norm": 1.0,
            "epochs": 1.0, "batch_rows": job["batch"], "steps": job["steps"], "max_tokens": 2048,
            "precision": job["precision"], "attention": "eager", "decoder": job["decoder"], "template": "base",
            "device": "cpu", "threads": job["threads"], "processes": 1, "shard": "none",
            "pack_tokens": job["pack_tokens"], "max_memory_bytes": 10**11, "checkpoint_every": 10**6, "look_every": 0,
            "patience": 0, "tracker": "none", "seed": 0,
        }
    )  # fmt: skip
    examples = [
        Example(row, [place >= start for place in range(len(row))])
        for row, start in zip(job["rows"], job["starts"], strict=True)
    ]
    taught = Batch([Lesson(f"r{place}", (example,)) for place, example in enumerate(examples)])
    made = loop.build(base, knobs)
    flops, records = [measure_flops(job["precision"], "cpu")], []
    for record in loop.run_steps(made, taught, knobs):
        records.append(record)
        flops.append(measure_flops(job["precision"], "cpu"))
    return Side(
        [record.loss_nats for record in records],
        [record.seconds for record in records],
        [record.tokens for record in records],
        peak_memory_bytes(),
        flops,
    )


def operations(lengths: Sequence[int]) -> float:
    """Of one pass forward and back over rows, each product that has to be done counted once, of SmolLM2-135M.

    Frozen weights: two products a weight and token (forward, gradient of the input). Adapters: three. Attention: two
    forward and four back, over the causal half. The head: two, for the learned half of a row.
    """
    layers, hidden, blocks, head, adapters = 30, 576, 106_168_320, 49_152 * 576, 2_442_240
    tokens = sum(lengths)
    attention = 6 * 2 * layers * hidden * sum(length * (length + 1) / 2 for length in lengths)
    return 4 * blocks * tokens + 6 * adapters * tokens + attention + 4 * head * tokens / 2


def in_a_process(command: Sequence[str], job: dict[str, Any], tuned: bool = True) -> Side:
    """Run one side on its own, with the job in a file; `tuned`: in the environment that our command line sets."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(job, file)
        file.flush()
        threads = str(job["threads"])
        settings = {"GOMP_SPINCOUNT": "30000", "THP_MEM_ALLOC_ENABLE": "1"} if tuned else {}
        environment = {**os.environ, "OMP_NUM_THREADS": threads, **settings}
        done = subprocess.run(
            [*command, file.name], check=False, capture_output=True, text=True, env=environment, cwd=ROOT
        )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return Side(**json.loads(done.stdout.splitlines()[-1]))


def figure(benchmark: str, unit: str, ours_is: float, theirs: tuple[str, float] | None, goal: str, **more: Any) -> None:
    """Print one figure as JSON."""
    line = {
        "benchmark": benchmark,
        "unit": unit,
        "ours": float(f"{ours_is:.4g}"),
        "peer": theirs[0] if theirs else None,
        "theirs": float(f"{theirs[1]:.4g}") if theirs else None,
        "ratio": float(f"{ours_is / theirs[1]:.3g}") if theirs and theirs[1] else None,
        "goal": goal,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        **more,
    }
    print(json.dumps(line), flush=True)


def apart(one: Side, other: Side) -> float:
    """The largest difference of two loss curves, step by step."""
    return max(abs(a - b) for a, b in zip(one.losses, other.losses, strict=False))


@dataclass(frozen=True)
class Case:
    """Rows of so many tokens, so many in a batch and so many batches: of a recipe, else of this repository's text."""

    shortest: int
    longest: int
    batch: int
    steps: int
    recipe: str = ""


CASES = {
    "50 to 300 tokens": Case(50, 300, BATCH, 9),
    "1,024 tokens": Case(1024, 1024, 2, 4),
    "instruct": Case(50, 300, BATCH, 9, "instruct"),
    "tone": Case(1, 300, 16, 9, "tone"),
}


def text_rows(case: Case, tokenizer: Any) -> list[tuple[list[int], int]]:
    """Pieces of this repository's own text, and where the second half of each begins."""
    files = sorted([*ROOT.glob("*.md"), *ROOT.glob("recipes/*.md"), *ROOT.glob("llmops/*/*.py")])
    ids = tokenizer("\n\n".join(path.read_text(encoding="utf-8") for path in files))["input_ids"]
    rng, found, place = random.Random(0), [], 0
    for _ in range(case.batch * case.steps):
        size = rng.randint(case.shortest, case.longest)
        found.append((ids[place : place + size], size // 2))
        place += size
    assert place <= len(ids), "the repository has too little text for so many rows"
    return found


def recipe_rows(case: Case, tokenizer: Any) -> list[tuple[list[int], int]]:
    """Training rows of a recipe as the model sees them, and where the reply of each begins."""
    from llmops.lm.render import Renderer
    from llmops.pipeline.make import prepare
    from llmops.store.workspace import Workspace

    recipe = importlib.import_module(f"recipes.{case.recipe}").RECIPE
    renderer = Renderer(tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        at = Workspace.find(Path(folder))
        examples = [renderer.row(row) for row in at.rows(prepare(recipe, at).id, "train")]
    sizes = range(case.shortest, case.longest + 1)
    fitting = [(example.ids, example.start) for example in examples if len(example.ids) in sizes]
    random.Random(0).shuffle(fitting)
    return fitting[: case.batch * case.steps]


def main(names: Sequence[str]) -> None:
    """Print every figure of some cases."""
    from llmops.core.context import Surroundings
    from llmops.lm.base import load_tokenizer
    from llmops.lm.machine import has_fast_bfloat16
    from llmops.lm.pack import pack_tokens
    from llmops.planning.bases import open_base

    folder = open_base(BASE, Surroundings()).folder
    tokenizer = load_tokenizer(folder)
    shared = {
        "base": str(folder), "rank": RANK, "rate": RATE, "threads": len(os.sched_getaffinity(0)),
        "precision": "bfloat16" if has_fast_bfloat16("cpu") else "float32", "decoder": "compiled",
        "pack_tokens": pack_tokens("cpu"),
    }  # fmt: skip
    for name in names or CASES:
        case = CASES[name]
        taken = recipe_rows(case, tokenizer) if case.recipe else text_rows(case, tokenizer)
        chosen, starts = zip(*taken, strict=True)
        compare(name, {**shared, "rows": chosen, "starts": starts, "batch": case.batch, "steps": case.steps})


def compare(name: str, job: dict[str, Any]) -> None:
    """Print every figure of one case."""
    me = [sys.executable, "-m", "tests.benchmarks.train", "--ours"]
    peer = [str(PEERS), str(THEIRS)]
    mine = in_a_process(me, job)
    if not CASES[name].recipe:  # of whose rows much is gone through once for many
        share = mine.share([[len(job["rows"][index]) for index in batch] for batch in batches(job)])
        figure(f"share of the ceiling, {name}", "of 1", share, None, ">= 0.85", flops=mine.flops)
    short_rows = CASES[name].shortest < 1024
    reference = in_a_process(me, {**job, "decoder": "transformers", "precision": "float32"}) if short_rows else None
    if reference:
        figure(
            f"loss curve beside float32, {name}", "nats", apart(mine, reference), None, "< 0.02",
            curve=mine.losses, reference=reference.losses,
        )  # fmt: skip
    if not PEERS.exists():
        print(json.dumps({"benchmark": f"TRL, {name}", "skipped": "make bench-setup installs it"}))
        return
    tuned = in_a_process(peer, {**job, "kind": "tuned", "batches": batches(job)})
    goal = ">= 3 times" if short_rows else ">= 2 times"
    figure(f"training, {name}", "tokens/s", mine.tokens_per_s, ("trl tuned", tuned.tokens_per_s), goal)
    figure(f"loss curve, {name}", "nats", apart(mine, tuned), None, "< 0.02", curve=mine.losses, trl=tuned.losses)
    if reference:
        figure(f"loss curve of trl tuned beside float32, {name}", "nats", apart(tuned, reference), None, "")
    figure(f"peak memory, {name}", "bytes", mine.peak_bytes, ("trl tuned", tuned.peak_bytes), "")
    if not short_rows:
        return
    drawn = scattered(len(job["rows"]), job["batch"])[:4]
    for kind in ("default", "float32"):
        theirs = in_a_process(peer, {**job, "kind": kind, "steps": 4, "batches": drawn}, tuned=False)
        trl = f"trl {kind}"
        figure(f"training, {name}", "tokens/s", mine.tokens_per_s, (trl, theirs.tokens_per_s), ">= 8 times")
        figure(f"peak memory, {name}", "bytes", mine.peak_bytes, (trl, theirs.peak_bytes), "<= 0.4 times")
        figure(f"mean loss, {name}", "nats", mean(mine.losses), (trl, mean(theirs.losses)), "")


def batches(job: dict[str, Any]) -> list[list[int]]:
    """Our batches, step by step."""
    from llmops.lm.batches import epoch_order

    return epoch_order([len(row) for row in job["rows"]], job["batch"], 0, 0)


def scattered(count: int, batch: int) -> list[list[int]]:
    """Batches in an order that knows nothing of lengths, as TRL's own sampler draws them."""
    order = list(range(count))
    random.Random(0).shuffle(order)
    return [order[start : start + batch] for start in range(0, count, batch)]


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean."""
    return math.fsum(values) / len(values)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        print(json.dumps(ours(json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))).__dict__))
    else:
        main(sys.argv[1:])
