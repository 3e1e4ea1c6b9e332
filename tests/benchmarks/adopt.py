"""Adapters that others wrote: adopted, certified, served and asked. See `_adapters_elsewhere.py` for who made them.

SmolLM2-135M on the rows of the recipe `tone`, a few steps each. `python -m tests.benchmarks.adopt [trl] [peft]
[llamafactory]` does those that are named. Prints a line of JSON for each; exit code 1 where something does not work.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import llmops
from llmops import Data, Evaluation, Source
from llmops.core.context import Surroundings
from llmops.core.report import EvalReport
from llmops.planning.bases import open_base
from llmops.store.workspace import Workspace
from recipes.tone import RECIPE
from tests.benchmarks.places import PEERS, ROOT

THEIRS = Path(__file__).with_name("_adapters_elsewhere.py")
STEPS, BATCH, RATE = 16, 8, 1e-3
DATA = Data(
    sources=(
        Source(from_="vader/tweets", train_rows=96, heldout_rows=24),
        Source(from_="vader/movies", train_rows=96, heldout_rows=24),
    ),
    heldout_share=0.2,
)
ADAPTED = RECIPE.replace(name="adapted", data=DATA, evaluation=Evaluation())


def main(makers: list[str], python: Path = PEERS) -> int:
    """Every maker in turn, in a workspace that is thrown away."""
    if not python.exists():
        print(json.dumps({"adapter": "all", "works": None, "why": "make bench-setup was not run"}))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        at = Workspace.find(Path(scratch) / "workspace", Surroundings(), environ={})
        found = [
            followed(maker, Path(scratch) / maker, python, at) for maker in makers or ["trl", "peft", "llamafactory"]
        ]
    return 0 if all(found) else 1


def followed(maker: str, out: Path, python: Path, at: Workspace) -> bool:
    """Whether an adapter comes through everything."""
    make(maker, out, python, at)
    version = llmops.adopt(out, ADAPTED, at)
    certificate = llmops.certify(version.ref, at)
    asked = llmops.ask_held_out(version.ref, at, door="classify")  # so few steps teach no whole replies
    base = at.get(EvalReport, version.report)
    line: dict[str, Any] = {
        "adapter": maker,
        "files": sorted(path.name for path in out.iterdir()),
        "accuracy": round(base.main.value, 4),
        "certificate": certificate.because,
        "endpoint": round(asked.endpoint, 4),
        "answers_that_differ": f"{asked.differ} of {asked.n}",
        "works": certificate.broken is None and asked.differ <= asked.n // 16,
    }
    print(json.dumps(line), flush=True)
    return bool(line["works"])


def make(maker: str, out: Path, python: Path, at: Workspace) -> None:
    """Have an adapter made on the recipe's own rows and base."""
    manifest = llmops.prepare(ADAPTED, at)
    rows = [
        {
            "prompt": [message.to_json() for message in row.prompt],
            "completion": [{"role": "assistant", "content": row.reply}],
        }
        for row in at.rows(manifest.id, "train")
    ]
    job = {
        "maker": maker,
        "base": str(open_base(ADAPTED.base, at.world).folder),
        "rows": rows,
        "out": str(out),
        "steps": STEPS,
        "batch": BATCH,
        "rate": RATE,
        "threads": len(os.sched_getaffinity(0)),
    }
    file = at.root / "job.json"
    file.write_text(json.dumps(job), encoding="utf-8")
    out.mkdir()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    subprocess.run([str(python), str(THEIRS), str(file)], check=True, cwd=ROOT, env=environment, stdout=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
