"""Tokens a second and the time to the first token at 1, 8, 32 and 64 readers: ours, and the peers.

One run, the same model, prompts and client; each server by itself, one after the other. `python -m
tests.benchmarks.serving [turns] [ours] [raw] [shipped] [transformers] [vllm]` runs those named. Ours is told
how many readers it has (`--readers`), and `raw` is the engine that it then stands on, by its own server; `shipped` is
llama.cpp as xllamacpp brings it, `vllm` needs `peers/vllm.sh`, and `LLMOPS_VLLM` may name another such python. `turns`
has ours and the others that are named (raw, if none is) up together and asks them in turns: one after the other, the
machine's own ups and downs are 10 %. Prints one JSON line a figure.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops.core.context import Surroundings
from llmops.core.export import Weights
from llmops.pipeline.engines import CONTEXT_TOKENS, MANY
from llmops.planning.bases import base_gguf, open_base
from llmops.planning.slots import slots
from llmops.serving.llamahost import SERVER, Load, arguments, fastest, native_server
from llmops.serving.prove_site import CHAT, Line
from llmops.serving.vllm import VLLM
from tests.benchmarks.places import ROOT

MODEL = "smollm2-135m-q4"
LEVELS = (1, 8, 32, 64)
ANSWER_TOKENS = 32
COST = 1.05
OF_THE_BEST = 0.9
# Against transformers serve, by readers.
GOALS = {1: 5.5, 8: 9.0, 32: 15.0, 64: 15.0}
# transformers serve says 16 tokens a second however many ask: more than these would take minutes.
SLOW = {1: 3, 8: 8, 32: 32}
MOST = {1: 4, 8: 16, 32: 48, 64: 64}
TURNS = 5


@dataclass(frozen=True)
class Served:
    """A server that answers: where, with which token, under which name of the model."""

    url: str
    token: str
    model: str


@dataclass(frozen=True)
class Level:
    """What was measured at one number of readers."""

    tokens_s: float
    first_p50_s: float
    first_p99_s: float
    failed: int


@contextmanager
def started(
    command: list[str], ready: Callable[[str], Served | None], environ: dict[str, str] | None = None
) -> Iterator[Served]:
    """A server as a process, once a line of its output says that it answers. `environ` is set beside what is."""
    env = {**os.environ, **(environ or {})}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if (served := ready(line)) is not None:
                # Nobody reads what it says from here on, and a full pipe would stop it.
                threading.Thread(target=process.stdout.read, daemon=True).start()
                yield served
                return
        raise SystemExit(f"{command[0]} did not start")
    finally:
        process.terminate()
        process.wait(40)


@contextmanager
def ours(readers: int) -> Iterator[Served]:
    """The endpoint, as a person starts it."""
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/token"
        command = [
            sys.executable,
            "-m",
            "llmops",
            "serve",
            MODEL,
            "--port",
            "0",
            "--workspace",
            folder,
            "--token-file",
            file,
            "--readers",
            str(readers),
        ]

        def ready(line: str) -> Served | None:
            if not line.startswith("Answering at "):
                return None
            return Served(line.split()[2].removesuffix("/v1"), Path(file).read_text().strip(), MODEL)

        with started(command, ready, {VLLM: str(PYTHON)} if PYTHON.is_file() else {}) as served:
            yield served


@contextmanager
def raw(readers: int) -> Iterator[Served]:
    """The engine that ours stands on, by itself: the same weights, threads, slots and context; its own chat path."""
    server = native_server()
    if readers >= MANY and PYTHON.is_file():
        with vllm(readers, "8658") as one:
            yield one
        return
    if server is None:
        with shipped(readers) as one:
            yield one
        return
    key, port = "raw", "8654"
    load = _load(fastest(readers))
    command = [str(server), *arguments(load, "127.0.0.1"), "--port", port, "--log-verbosity", "3"]
    one = Served(f"http://127.0.0.1:{port}", key, MODEL)
    with started(command, lambda line: one if "listening" in line else None, {"LLAMA_API_KEY": key}) as served:
        yield served


@contextmanager
def shipped(_: int) -> Iterator[Served]:
    """llama.cpp's own server through xllamacpp, which is built for any processor."""
    load = _load("q8_0")
    words = (load.gguf, load.threads, load.slots, load.context_tokens)
    script = [sys.executable, "-m", "tests.benchmarks._raw_llama", *map(str, words)]
    with started(script, lambda line: Served(*line.split(), MODEL) if "http" in line else None, {SERVER: ""}) as one:
        yield one


def _load(weights: Weights) -> Load:
    """What `llmops serve` loads for the model in these weights."""
    world = Surroundings()
    base = open_base(MODEL, world)
    return Load(
        base_gguf(base, world, weights),
        len(os.sched_getaffinity(0)),
        CONTEXT_TOKENS,
        slots(base.shape, CONTEXT_TOKENS),
    )


@contextmanager
def vllm(_: int, port: str = "8656") -> Iterator[Served]:
    """vLLM's build for processors, in bfloat16, on all cores: left alone it keeps one of two for itself."""
    folder = str(open_base(MODEL, Surroundings()).folder)
    command = [
        str(PYTHON.with_name("vllm")),
        "serve",
        folder,
        "--dtype",
        "bfloat16",
        "--max-model-len",
        str(CONTEXT_TOKENS),
    ]
    command += ["--port", port, "--max-num-seqs", "64"]
    one = Served(f"http://127.0.0.1:{port}", "none", folder)
    environ = {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_CPU_OMP_THREADS_BIND": f"0-{len(os.sched_getaffinity(0)) - 1}"}
    environ["VLLM_USE_AOT_COMPILE"] = "0"  # it loads in a third of the time, and says as much
    with started(command, lambda line: one if "Application startup complete" in line else None, environ) as served:
        yield served


@contextmanager
def transformers(_: int) -> Iterator[Served]:
    """`transformers serve` on the same weights, as converted to float32."""
    folder = str(open_base(MODEL, Surroundings()).folder)
    port = "8655"
    command = [
        str(Path(sys.executable).parent / "transformers"),
        "serve",
        folder,
        "--port",
        port,
        "--device",
        "cpu",
        "--log-level",
        "info",
    ]
    with started(
        command, lambda line: Served(f"http://127.0.0.1:{port}", "none", folder) if "running" in line else None
    ) as one:
        yield one


async def measure(served: Served, readers: int, answers: int, first_number: int = 0) -> Level:
    """So many readers ask one question after the other, until there are so many answers."""
    numbers = iter(range(first_number, first_number + answers))
    first: list[float] = []
    tokens = failed = 0

    async def reader() -> None:
        nonlocal tokens, failed
        for number in numbers:
            body = {
                "model": served.model,
                "messages": [
                    {"role": "user", "content": f"Question {number}: tell me a story about the number {number}."}
                ],
                "max_tokens": ANSWER_TOKENS,
                "temperature": 0,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
            waited_s, said = await streamed(served, body)
            failed += waited_s is None
            tokens += said
            first.extend([waited_s] if waited_s is not None else [])

    began = time.perf_counter()
    await asyncio.gather(*(reader() for _ in range(readers)))
    took_s = time.perf_counter() - began
    first.sort()
    if not first:
        return Level(0.0, float("nan"), float("nan"), failed)
    return Level(tokens / took_s, first[len(first) // 2], first[min(len(first) - 1, int(len(first) * 0.99))], failed)


async def streamed(served: Served, body: dict[str, Any]) -> tuple[float | None, int]:
    """(seconds to the first text, tokens) of one answer; None where there was none."""
    line = await Line.open(served.url)
    began = time.perf_counter()
    line.send("POST", CHAT, body, served.token)
    waited_s, pieces, counted = None, 0, None
    if await line.head() != 200:
        return None, 0
    while not (part := await line.reader.readline()).startswith(b"data: [DONE]"):
        if not part:
            break
        if not part.startswith(b"data: {"):
            continue
        event = json.loads(part[6:])
        if event.get("choices") and event["choices"][0]["delta"].get("content"):
            pieces += 1
            waited_s = waited_s or time.perf_counter() - began
        counted = (event.get("usage") or {}).get("completion_tokens", counted)
    await line.close()
    return waited_s, counted or pieces


# In the environment that `peers/vllm.sh` makes.
PYTHON = Path(os.environ.get(VLLM, ROOT / ".venv-vllm/bin/python"))
PEERS: dict[str, tuple[Callable[[int], AbstractContextManager[Served]], dict[int, int]]] = {
    "ours": (ours, MOST),
    "raw": (raw, MOST),
    "shipped": (shipped, MOST),
    "transformers": (transformers, SLOW),
    "vllm": (vllm, MOST),
}
# transformers serve would take minutes a turn.
TURNED = ("raw", "shipped", "vllm")


def run(name: str) -> dict[int, Level]:
    """One server at every level. A first question, which fills caches, does not count."""
    start, answers = PEERS[name]
    found = {}
    for readers, count in answers.items():
        with start(readers) as served:
            asyncio.run(measure(served, 1, 1))
            found[readers] = asyncio.run(measure(served, readers, count))
    return found


def turns(peers: Sequence[str]) -> Iterator[str]:
    """Ours against others that are up beside it, asked in turns: the median of the turns' ratios at each level."""
    names = ("ours", *peers)
    for readers in LEVELS:
        with ExitStack() as running:
            up = {name: running.enter_context(PEERS[name][0](readers)) for name in names}
            for served in up.values():
                asyncio.run(measure(served, 1, 1))
            found: dict[str, list[Level]] = {name: [] for name in names}
            for number in range(TURNS):
                for name in names[:: -1 if number % 2 else 1]:
                    # Other questions each turn: an answer that is remembered is none.
                    count = 2 * MOST[readers]
                    found[name].append(asyncio.run(measure(up[name], readers, count, (number + 1) * count)))
            for peer in peers:
                yield _in_turns(found["ours"], peer, found[peer], readers)


def _in_turns(mine: list[Level], peer: str, theirs: list[Level], readers: int) -> str:
    ratios = sorted(a.tokens_s / b.tokens_s for a, b in zip(mine, theirs, strict=True))
    middle = [statistics.median(level.tokens_s for level in levels) for levels in (mine, theirs)]
    line = figure(
        f"serving in turns, {readers} readers", "tokens/s", middle[0], peer, middle[1], goal_of(peer, readers)
    )
    about = {
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(one, 3) for one in ratios],
        "first_p50_s": [round(statistics.median(one.first_p50_s for one in levels), 3) for levels in (mine, theirs)],
        "failed": sum(level.failed for level in (*mine, *theirs)),
    }
    return json.dumps({**json.loads(line), **about})


def goal_of(peer: str, readers: int) -> float:
    """What ours must reach of a peer's tokens a second."""
    return {"raw": 1 / COST, "transformers": GOALS[readers]}.get(peer, OF_THE_BEST)


def figure(benchmark: str, unit: str, mine: float, peer: str, theirs: float, goal: float) -> str:
    """One line. The ratio is of ours to theirs."""
    line = {
        "benchmark": benchmark,
        "unit": unit,
        "ours": round(mine, 3),
        "peer": peer,
        "theirs": round(theirs, 3),
        "ratio": round(mine / theirs, 2) if theirs else None,
        "goal": round(goal, 3),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
    }
    return json.dumps(line)


def main(names: list[str]) -> None:
    """Measure those that are named, all if none is."""
    names = names or ["turns", *PEERS]
    if "vllm" in names and not PYTHON.is_file():
        said = f"there is no {PYTHON}; tests/benchmarks/peers/vllm.sh makes it"
        print(json.dumps({"server": "vllm", "skipped": said}))
        names.remove("vllm")
    if "turns" in names:
        for line in turns([name for name in names if name in TURNED] or ["raw"]):
            print(line, flush=True)
        names = [name for name in names if name not in TURNED]
    found: dict[str, dict[int, Level]] = {}
    for name in (name for name in names if name in PEERS):
        found[name] = run(name)
        for readers, level in found[name].items():
            print(json.dumps({"server": name, "readers": readers, **vars(level)}), flush=True)
    mine = found.pop("ours", {})
    for peer, levels in found.items():
        for readers, theirs in levels.items():
            if readers in mine:
                level, goal = mine[readers], goal_of(peer, readers)
                print(figure(f"serving, {readers} readers", "tokens/s", level.tokens_s, peer, theirs.tokens_s, goal))
                first = (level.first_p50_s, peer, theirs.first_p50_s)
                print(figure(f"first token, {readers} readers, p50", "s", *first, COST))


if __name__ == "__main__":
    main(sys.argv[1:])
