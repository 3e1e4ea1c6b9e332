"""The memory that `plan` expects against what training takes: each combination in a fresh process, one JSON line each.

`python -m tests.benchmarks.memory [NAME...]` trains two steps of each combination on made-up rows, with everything
that `llmops train` does, and reads the peak of the process. Goal: within 15 %. `--terms` adds the peak at each step.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops import pipeline
from llmops.core.context import Surroundings
from llmops.core.method import IA3, DoRA, FullTuning, LoRA, Method, Precision, Training
from llmops.core.plan import Plan, Wishes
from llmops.core.recipe import Recipe
from llmops.core.sources import Data, Labelled, PromptReply, Source
from llmops.core.tasks import Classify, Reply
from llmops.store.workspace import Workspace

GOAL = 0.15
STEPS = 2
# Rows of few words look like near duplicates of each other, which preparing drops.
SYLLABLES = [first + then for first in "bdfghjklmnprstvz" for then in "aeiou"]
TOKENS_A_WORD = 2.5


@dataclass(frozen=True)
class Case:
    """A base, a method, rows of about `tokens` tokens, `batch` of them in a step; labels or replies."""

    base: str
    method: Method
    tokens: int
    batch: int
    replies: bool = False
    precision: Precision | None = None
    checkpointing: bool | None = None


SMOL, GEMMA = "smollm2-135m-q4", "gemma3-270m-q4"
CASES = {
    "smol lora 60x4": Case(SMOL, LoRA(rank=8), 60, 4),
    "smol lora 60x16": Case(SMOL, LoRA(rank=8), 60, 16),
    "smol lora 60x16 float32": Case(SMOL, LoRA(rank=8), 60, 16, precision="float32"),
    "smol lora 200x4 replies": Case(SMOL, LoRA(rank=16), 200, 4, replies=True),
    "smol lora 200x16 replies": Case(SMOL, LoRA(rank=16), 200, 16, replies=True),
    "smol lora 450x2": Case(SMOL, LoRA(rank=8), 450, 2),
    "smol lora 450x2 again": Case(SMOL, LoRA(rank=8), 450, 2, checkpointing=True),
    "smol lora 900x4 replies": Case(SMOL, LoRA(rank=8), 900, 4, replies=True),
    "smol ia3 60x8": Case(SMOL, IA3(), 60, 8),
    "smol dora 60x8": Case(SMOL, DoRA(rank=8), 60, 8),
    "smol full 60x4": Case(SMOL, FullTuning(), 60, 4),
    "smol full 200x4 replies": Case(SMOL, FullTuning(), 200, 4, replies=True),
    "gemma lora 60x2": Case(GEMMA, LoRA(rank=8), 60, 2),
    "gemma lora 60x12": Case(GEMMA, LoRA(rank=8), 60, 12),
    "gemma lora 200x4 replies": Case(GEMMA, LoRA(rank=16), 200, 4, replies=True),
    "gemma lora 450x2 again": Case(GEMMA, LoRA(rank=8), 450, 2, checkpointing=True),
    "gemma ia3 60x4": Case(GEMMA, IA3(), 60, 4),
    "gemma dora 60x4": Case(GEMMA, DoRA(rank=8), 60, 4),
    "gemma full 60x2": Case(GEMMA, FullTuning(), 60, 2),
}


def rows_file(case: Case, folder: Path) -> Path:
    """Rows of made-up words, a little more than the steps need, as a CSV."""
    draw = random.Random(0)

    def words(tokens: int) -> str:
        number = round(tokens / TOKENS_A_WORD)
        return " ".join(draw.choice(SYLLABLES) + draw.choice(SYLLABLES) for _ in range(number))

    lines = ["prompt,reply"]
    for index in range(2 * STEPS * case.batch + 24):
        reply = words(case.tokens // 2) if case.replies else ("good", "bad")[index % 2]
        lines.append(f"{words(case.tokens // 2 if case.replies else case.tokens)},{reply}")
    path = folder / "rows.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def planned(case: Case, folder: Path) -> tuple[Workspace, Plan]:
    """The case as a plan in a workspace of its own."""
    at = Workspace.find(folder / "workspace", Surroundings(), environ={})
    labels = Labelled(text="prompt", label="reply")
    source = Source(from_=f"path:{rows_file(case, folder)}", shape=PromptReply() if case.replies else labels)
    recipe = Recipe(
        name="memory",
        base=case.base,
        data=Data(sources=(source,), heldout_share=0.2, steps=()),
        task=Reply() if case.replies else Classify(question="Good or bad?", labels=("bad", "good")),
        method=case.method,
        training=Training(
            batch_rows=case.batch,
            epochs=0.5,
            precision=case.precision,
            gradient_checkpointing=case.checkpointing,
        ),
    )
    return at, pipeline.plan(recipe, pipeline.prepare(recipe, at), at, Wishes(threads=2))


def trained(at: Workspace, plan: Plan) -> dict[str, Any]:
    """Carry the plan out in a fresh process; what it held at most."""
    command = [sys.executable, "-m", "tests.benchmarks.memory", "--train", str(at.root), plan.id]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def train_here(root: Path, plan_id: str) -> None:
    """The measured process: it does nothing but train."""
    from llmops.lm.machine import peak_memory_bytes

    at = Workspace.find(root, Surroundings(), environ={})
    run = pipeline.train(at.get(Plan, plan_id), at)
    print(json.dumps({"peak": peak_memory_bytes(), "steps": [step.memory_bytes for step in at.steps(run.id)]}))


def main(arguments: list[str]) -> None:
    """All cases, or those that are named."""
    if arguments[:1] == ["--train"]:
        train_here(Path(arguments[1]), arguments[2])
        return
    terms = "--terms" in arguments
    for name in [name for name in arguments if name != "--terms"] or CASES:
        with tempfile.TemporaryDirectory() as scratch:
            at, plan = planned(CASES[name], Path(scratch))
            seen = trained(at, plan)
        expected = plan.memory_bytes_expected
        line = {
            "benchmark": f"memory {name}", "unit": "GB", "ours": round(expected / 1e9, 3), "peer": "measured",
            "theirs": round(seen["peak"] / 1e9, 3), "ratio": round(expected / seen["peak"], 3),
            "goal": f"within {GOAL:.0%}", "tokens": plan.knobs.max_tokens, "precision": plan.knobs.precision,
        }  # fmt: skip
        if terms:
            line["steps_gb"] = [round(value / 1e9, 3) for value in seen["steps"]]
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
