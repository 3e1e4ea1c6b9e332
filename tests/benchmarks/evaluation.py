"""Exams by likelihood, beside EleutherAI's lm-eval (`hf` model): seconds, log-probabilities, accuracies, memory.

The same prompts and weights in the same precision on both sides, each in a process of its own; loading is not counted,
tokenisation is. SmolLM2-135M is asked OpenBookQA, PIQA and BoolQ, bare, behind 5 examples drawn for each question, and
behind 5 fixed ones; the other exams bare. Prints one JSON line a figure. Names of sets (`openbookqa/fixed`) as
arguments measure only those, a number asks so many questions, `--bfloat16` measures in that precision. Seconds hold on
an idle machine; those of all cores (`cpu_seconds`, with GOMP_SPINCOUNT=0) nearly hold on a busy one.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.places import PEERS, ROOT

THEIRS = Path(__file__).with_name("_evaluate_with_lm_eval.py")
BASE = "smollm2-135m-q4"
WARMING = 12  # questions that we are asked before, enough for a sparing pass (`lm/likelihood.py`)
EXAMPLES = {"bare": "0", "drawn": "drawn:5", "fixed": "5"}
# Of each set: questions, and how many times faster it is to be.
SETS: dict[str, tuple[int, float]] = {
    "openbookqa/bare": (40, 4.0),
    "openbookqa/drawn": (20, 4.5),
    "openbookqa/fixed": (20, 10.0),
    "piqa/bare": (40, 2.0),
    "piqa/drawn": (20, 2.0),
    "piqa/fixed": (20, 2.0),
    "boolq/bare": (20, 1.3),
    "boolq/drawn": (6, 1.3),
    "boolq/fixed": (6, 4.0),
    # Asked to see that both say the same; how fast is nobody's goal.
    "commonsenseqa/bare": (20, 1.0),
    "bbq/bare": (20, 1.0),
    "crows-pairs/bare": (20, 1.0),
    "privacy-policy/bare": (10, 1.0),
}


@dataclass(frozen=True)
class Side:
    """What one process found: seconds, and of all its cores; nats of every option; peak memory."""

    seconds: float
    cpu_seconds: float
    nats: list[list[float]]
    peak_bytes: int
    batch: int = 0


def ours(job: dict[str, Any]) -> Side:
    """Ask with our own engine, in this process."""
    from llmops.lm.base import load_tokenizer, template_of
    from llmops.lm.model import LocalModel

    base = Path(job["base"])
    template = template_of(load_tokenizer(base))
    model = LocalModel.open(base, None, job["precision"], "cpu", template, job["threads"])
    asked = [(text, tuple(options)) for text, options in job["questions"]]
    model.option_logprobs(asked[:WARMING])
    start, busy = time.perf_counter(), time.process_time()
    found = model.option_logprobs(asked)
    spent, worked = time.perf_counter() - start, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Side(spent, worked, [[nats for nats, _ in some] for some in found], peak)


def in_a_process(command: Sequence[str], job: dict[str, Any]) -> dict[str, Any]:
    """Run one side on its own, with the job in a file; what it printed last."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(job, file)
        file.flush()
        spins = os.environ.get("GOMP_SPINCOUNT", "30000")
        environment = {"GOMP_SPINCOUNT": spins, "OMP_NUM_THREADS": str(job["threads"]), "THP_MEM_ALLOC_ENABLE": "1"}
        environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
        done = subprocess.run(
            [*command, file.name],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            cwd=ROOT,
        )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def figure(benchmark: str, unit: str, ours_is: float, theirs_is: float | None, goal: str, **more: Any) -> None:
    """Print one figure as JSON."""
    line = {
        "benchmark": benchmark,
        "unit": unit,
        "ours": float(f"{ours_is:.4g}"),
        "peer": "lm-eval 0.4.13",
        "theirs": None if theirs_is is None else float(f"{theirs_is:.4g}"),
        "ratio": float(f"{ours_is / theirs_is:.3g}") if theirs_is else None,
        "goal": goal,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        **more,
    }
    print(json.dumps(line), flush=True)


def accuracies(questions: Sequence[Any], nats: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Share of questions whose likeliest option is right, and whose likeliest for its characters is."""
    plain = norm = 0
    for question, some in zip(questions, nats, strict=True):
        rates = [each / len(option.strip(" ")) for each, option in zip(some, question.options, strict=True)]
        plain += question.options[some.index(max(some))] in question.expected
        norm += question.options[rates.index(max(rates))] in question.expected
    return plain / len(questions), norm / len(questions)


def measure(name: str, precision: str, wanted: int | None) -> None:
    """Print the figures of one set."""
    from llmops.core.context import Surroundings
    from llmops.pipeline.suites import examples_of, suite_named
    from llmops.planning.bases import open_base
    from llmops.store.workspace import Workspace

    exam, _, how = name.partition("/")
    number, goal = wanted or SETS[name][0], SETS[name][1]
    with tempfile.TemporaryDirectory() as folder:
        at = Workspace.find(Path(folder), Surroundings(), environ={})
        _, questions = suite_named(exam, at, examples_of(EXAMPLES[how]), number)
    job = {
        "base": str(open_base(BASE, Surroundings()).folder),
        "precision": precision,
        "threads": len(os.sched_getaffinity(0)),
        "questions": [(question.text, question.options) for question in questions],
    }
    mine = Side(**in_a_process([sys.executable, "-m", "tests.benchmarks.evaluation", "--ours"], job))
    if not PEERS.exists():
        figure(f"{name}, {precision}", "questions/s", number / mine.seconds, None, "make bench-setup installs lm-eval")
        return
    job |= in_a_process([str(PEERS), str(THEIRS)], job)
    peer = Side(**in_a_process([str(PEERS), str(THEIRS)], job))
    figure(
        f"{name}, {precision}", "questions/s", number / mine.seconds, number / peer.seconds, f">= {goal} times",
        questions=number, seconds=[round(mine.seconds, 2), round(peer.seconds, 2)],
        cpu_seconds=[round(mine.cpu_seconds, 2), round(peer.cpu_seconds, 2)],
        cpu_ratio=round(peer.cpu_seconds / mine.cpu_seconds, 2), their_batch=peer.batch,
    )  # fmt: skip
    apart = max(
        abs(a - b) for one, other in zip(mine.nats, peer.nats, strict=True) for a, b in zip(one, other, strict=True)
    )
    figure(f"{name}, {precision}, largest difference", "nats", apart, None, "<= 0.001 in float32")
    for kind, a, b in zip(
        ("accuracy", "accuracy_norm"), accuracies(questions, mine.nats), accuracies(questions, peer.nats), strict=True
    ):
        figure(f"{name}, {precision}, {kind}", "share", a, b, "equal")
    figure(f"{name}, {precision}, peak memory", "bytes", mine.peak_bytes, peer.peak_bytes, "<= 0.5 times")


def main(arguments: Sequence[str]) -> None:
    """Print every figure of some sets, or of all."""
    precision = "bfloat16" if "--bfloat16" in arguments else "float32"
    numbers = [int(argument) for argument in arguments if argument.isdigit()]
    for name in [argument for argument in arguments if argument in SETS] or SETS:
        measure(name, precision, numbers[0] if numbers else None)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        print(json.dumps(ours(json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))).__dict__))
    else:
        main(sys.argv[1:])
