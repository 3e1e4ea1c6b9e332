"""Our losses against TRL's, on the same tiny model and the same batch, in float32.

The peer is TRL in the environment of the peers (or the Python that is named); without it, the numbers that it gave
before (`trl_losses.json`, with the versions that made them). `--record` writes that file anew. One JSON line a figure.
"""

from __future__ import annotations

import json
import platform
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from llmops.core.method import DPO, KTO, ORPO, SFT, Objective
from llmops.lm.base import load_weights
from llmops.lm.lessons import Lesson
from llmops.lm.render import Example
from llmops.training.losses import NEEDS_START, Batch, shares, token_logps
from llmops.training.processes import ALONE
from tests.unit import sample_values
from tests.unit.tiny_model import tiny_llama

HERE = Path(__file__).parent
RECORDED = HERE / "trl_losses.json"
PEER = Path(".venv-peers/bin/python")
GOAL = 1e-4
BETA = 0.3

OBJECTIVES: dict[str, Objective] = {
    "sft": SFT(roles=()),
    "continued pretraining": SFT(roles=()),
    "dpo": DPO(beta=BETA, label_smoothing=0.0),
    "dpo, a tenth flipped": DPO(beta=BETA, label_smoothing=0.1),
    "kto": KTO(beta=BETA, liked_weight=1.0, disliked_weight=1.0),
    "kto, weighted": KTO(beta=BETA, liked_weight=0.75, disliked_weight=1.25),
    "orpo": ORPO(beta=BETA),
}


def write_case(folder: Path) -> dict[str, Any]:
    """Write the model before (`start`) and after (`now`) some training that never was, and the batch; returns that."""
    tiny_llama(folder / "start", spread=0.2)
    now = load_weights(folder / "start")
    noise = torch.Generator().manual_seed(1)
    for weight in now.parameters():
        weight.add_(torch.randn(weight.shape, generator=noise), alpha=0.05)
    now.save_pretrained(folder / "now")
    draw = random.Random(0)

    def ids(least: int, most: int) -> list[int]:
        return [draw.randrange(3, 380) for _ in range(draw.randint(least, most))]

    pairs = [{"prompt": ids(3, 9), "chosen": ids(2, 8), "rejected": ids(2, 8)} for _ in range(4)]
    thumbs = [{"prompt": ids(3, 9), "reply": ids(2, 8), "liked": place % 3 > 0} for place in range(8)]
    batch = {"beta": BETA, "pairs": pairs, "thumbs": thumbs}
    (folder / "batch.json").write_text(json.dumps(batch))
    return batch


def lesson(name: str, objective: Objective, batch: dict[str, Any], place: int) -> Lesson:
    """One row of the batch, as `lm/lessons.py` makes them of rows."""

    def example(prompt: list[int], reply: list[int], prompt_too: bool = False) -> Example:
        return Example(prompt + reply, [prompt_too] * len(prompt) + [True] * len(reply), len(prompt))

    if isinstance(objective, KTO):
        row, stranger = batch["thumbs"][place], batch["thumbs"][place - 1]
        examples = (example(row["prompt"], row["reply"]), example(row["prompt"], stranger["reply"]))
        return Lesson(str(place), examples, row["liked"])
    row = batch["pairs"][place]
    chosen = example(row["prompt"], row["chosen"], name in ("continued pretraining", "orpo"))
    rejected = () if isinstance(objective, SFT) else (example(row["prompt"], row["rejected"]),)
    return Lesson(str(place), (chosen, *rejected))


def our_losses(folder: Path, batch: dict[str, Any], pack_tokens: int = 16) -> dict[str, float]:
    """Ours, through packs of `pack_tokens`, so that a batch is several."""
    start, now = load_weights(folder / "start"), load_weights(folder / "now")
    found = {}
    for name, objective in OBJECTIVES.items():
        knobs = sample_values.plan().knobs.replace(objective=objective, pack_tokens=pack_tokens)
        rows = batch["thumbs" if isinstance(objective, KTO) else "pairs"]
        taught = [lesson(name, objective, batch, place) for place in range(len(rows))]
        with torch.no_grad():
            start_BE = torch.zeros(len(taught), len(taught[0].examples))
            for part in token_logps(start, [one.examples for one in taught], knobs, ALONE):
                start_BE[part.places] = part.sums()
            whole = Batch(taught, start_BE if objective.kind in NEEDS_START else None)
            found[name] = sum(float(share.loss) for share in shares(now, whole, knobs, ALONE))
    return found


def their_losses(folder: Path, peer: Path = PEER) -> dict[str, Any] | None:
    """TRL's, live; None where the peers are not installed."""
    if not peer.is_file():
        return None
    command = [str(peer), str(HERE / "peers" / "trl_losses.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(arguments: list[str]) -> None:
    """Print a line for each objective."""
    peer = next((Path(word) for word in arguments if not word.startswith("-")), PEER)
    with tempfile.TemporaryDirectory(prefix="llmops-objectives-") as scratch:
        batch = write_case(Path(scratch))
        ours, live = our_losses(Path(scratch), batch), their_losses(Path(scratch), peer)
    if live is not None and "--record" in arguments:
        RECORDED.write_text(json.dumps(live, indent=2) + "\n")
    theirs = live or json.loads(RECORDED.read_text())
    versions = ", ".join(f"{name} {version}" for name, version in theirs["versions"].items())
    for name, loss in ours.items():
        figure = {
            "benchmark": f"loss of {name}",
            "unit": "nats",
            "ours": round(loss, 7),
            "peer": f"{versions}{'' if live else ' (recorded)'}",
            "theirs": round(theirs["losses"][name], 7),
            "ratio": round(loss / theirs["losses"][name], 6),
            "difference": abs(loss - theirs["losses"][name]),
            "goal": GOAL,
            "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
        }
        print(json.dumps(figure))


if __name__ == "__main__":
    main(sys.argv[1:])
