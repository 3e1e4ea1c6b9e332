"""How fast rows are cleaned, in how much memory; how fast near duplicates are found, beside datasketch and datatrove.

The rows are made by repeating and perturbing real ones (VADER's four corpora). One JSON line a figure. Peers run where
`make bench-setup` has installed them. `--size soak` adds a million rows and looks whether time is linear.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import psutil

from llmops.core.cleaning import NearDuplicates
from llmops.core.context import Surroundings
from llmops.data.mapping import Example
from llmops.data.origin import CHUNK_ROWS
from llmops.data.steps.near_duplicates import decide, sign
from llmops.data.steps.signs import Signs
from llmops.store.catalogue import DATA
from llmops.store.sources import fetch
from tests.benchmarks.places import PEERS

NEAR_ROWS = 20_000
NEAR_SHARE = 0.2
SMALL, LARGE = 100_000, 1_000_000
# Of all processes together: 230 MiB to begin with, and at most 1.2 KiB a row, most of it for the leak gate's words.
MOST_MEMORY_MIB = {SMALL: 600, LARGE: 1_400}

PREPARE = """
import sys
from pathlib import Path
from llmops import Classify, Data, Recipe, Source
from llmops.core.sources import Labelled
from llmops.data.prepare import prepare
from llmops.store.workspace import Workspace
source = Source(from_=f"path:{sys.argv[1]}", shape=Labelled())
task = Classify(question="Which?", labels=("a", "b"))
made = prepare(Recipe(name="rows", data=Data(sources=(source,)), task=task), Workspace.find(Path(sys.argv[2])))
print(made.model_dump_json())
"""

# One row after the other asks for its like and is put in: the usual way to use it.
DATASKETCH = """
import json, re, sys, time
from datasketch import MinHash, MinHashLSH
texts = [json.loads(line)["text"] for line in open(sys.argv[1], encoding="utf-8")]
word = re.compile(r"\\w+")
began = time.perf_counter()
index, gone = MinHashLSH(params=(32, 4), num_perm=128), []
for at, text in enumerate(texts):
    words = word.findall(text.casefold())
    pairs = {f"{one} {two}" for one, two in zip(words, words[1:])} or set(words)
    minhash = MinHash(num_perm=128)
    minhash.update_batch([pair.encode() for pair in pairs])
    if any(True for _ in index.query(minhash)):
        gone.append(at)
    else:
        index.insert(at, minhash)
print(json.dumps({"seconds": time.perf_counter() - began, "gone": gone}))
"""

# Its four stages in one process, with its quickest tokenizer: the one for English (spaCy) takes four times as long.
DATATROVE = """
import json, sys, tempfile, time
from loguru import logger
logger.remove()
from datatrove.data import Document
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.utils.word_tokenizers import WhitespaceTokenizer
texts = [json.loads(line)["text"] for line in open(sys.argv[1], encoding="utf-8")]
rows = [Document(text=text, id=str(at)) for at, text in enumerate(texts)]
config = MinhashConfig(n_grams=2, num_buckets=32, hashes_per_bucket=4)
with tempfile.TemporaryDirectory() as at:
    began = time.perf_counter()
    MinhashDedupSignature(output_folder=f"{at}/1", config=config, language=WhitespaceTokenizer()).run(rows, 0, 1)
    for band in range(32):
        MinhashDedupBuckets(input_folder=f"{at}/1", output_folder=f"{at}/2", config=config).run(None, band, 32)
    MinhashDedupCluster(input_folder=f"{at}/2", output_folder=f"{at}/3", config=config).run(None, 0, 1)
    kept = {row.id for row in MinhashDedupFilter(input_folder=f"{at}/3").run(rows, 0, 1)}
    seconds = time.perf_counter() - began
print(json.dumps({"seconds": seconds, "gone": [at for at in range(len(rows)) if str(at) not in kept]}))
"""


def real_texts() -> list[str]:
    """The texts of VADER's four corpora."""
    found = []
    for name in ("tweets", "movies", "amazon", "nyt"):
        entry = DATA[f"vader/{name}"]
        path = fetch(entry.address, entry.sha256, Surroundings(), entry).path
        found += [line.split("\t")[2] for line in path.read_text("utf-8").splitlines() if line.count("\t") >= 2]
    return found


def made_rows(count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Rows of a text, its label, and the number of its family: real texts with most words exchanged, so that they are
    all different; a fifth of the rows are earlier ones with a tenth of their words exchanged."""
    rng = Random(seed)
    texts = [text.split() for text in real_texts()]
    words = sorted({word for text in texts for word in text})
    long: list[tuple[int, list[str]]] = []
    for number in range(count):
        if long and rng.random() < NEAR_SHARE:
            family, near = rng.choice(long)
            text = list(near)
            for place in rng.sample(range(len(text)), len(text) // 10):
                text[place] = rng.choice(words)
        else:
            family, text = number, [rng.choice(words) if rng.random() < 0.6 else word for word in rng.choice(texts)]
            if len(text) >= 10 and len(long) < 50_000:
                long.append((family, text))
        yield {"text": " ".join(text), "label": "ab"[family % 2], "family": family}


def write_rows(path: Path, count: int) -> Path:
    """Write the rows as JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in made_rows(count))
    return path


def prepared(rows: Path, at: Path) -> tuple[float, float]:
    """(seconds, peak MiB of all its processes together) of preparing the rows with the default steps."""
    began = time.perf_counter()
    peak = 0
    with (at / "made.json").open("w") as out:
        process = psutil.Popen([sys.executable, "-c", PREPARE, str(rows), str(at / "workspace")], stdout=out)
        while process.poll() is None:
            peak = max(peak, sum(map(private_bytes, [process, *process.children(recursive=True)])))
            time.sleep(0.05)
    seconds = time.perf_counter() - began
    if process.returncode != 0:
        raise SystemExit("the preparation failed")
    return seconds, peak / 2**20


def private_bytes(process: psutil.Process) -> int:
    """What a process holds in memory; nothing where it has just ended."""
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def near_rows(path: Path) -> tuple[float, list[int]]:
    """(seconds, places that go) of our step, in one process."""
    rows = []
    for number, line in enumerate(path.open(encoding="utf-8")):
        rows.append(Example(0, "rows", number, (), json.loads(line)["text"], None, {}, "", "", f"{number:016x}"))
    step = NearDuplicates(alike=0.6)
    began = time.perf_counter()
    signs = Signs([sign(step, rows[at : at + CHUNK_ROWS]) for at in range(0, len(rows), CHUNK_ROWS)])
    gone = [place for place, _ in decide(step, signs, ())]
    return time.perf_counter() - began, gone


def recall(path: Path, gone: list[int]) -> float:
    """The share of injected near duplicates that went: of each family of n rows, n - 1 should."""
    families: dict[int, list[int]] = {}
    for place, line in enumerate(path.open(encoding="utf-8")):
        families.setdefault(json.loads(line)["family"], []).append(place)
    lost = set(gone)
    injected = sum(len(places) - 1 for places in families.values())
    found = sum(min(len(places) - 1, sum(place in lost for place in places)) for places in families.values())
    return found / injected


def peer_near(script: str, rows: Path) -> tuple[float, list[int]]:
    """(seconds, places that go) of a peer."""
    done = subprocess.run([str(PEERS), "-c", script, str(rows)], check=True, capture_output=True, text=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer["seconds"], answer["gone"]


def line(benchmark: str, unit: str, ours: float, goal: float, **more: Any) -> None:
    """Print one figure."""
    figure = {
        "benchmark": benchmark,
        "unit": unit,
        "ours": round(ours, 3),
        "peer": None,
        "theirs": None,
        "ratio": None,
        "goal": goal,
        **more,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }
    print(json.dumps(figure), flush=True)


def near_figures(folder: Path) -> None:
    """Rows a second of the near-duplicate step and of its peers, on the same rows, and everybody's recall."""
    rows = write_rows(folder / "near.jsonl", NEAR_ROWS)
    seconds, gone = min((near_rows(rows) for _ in range(3)), key=lambda tried: tried[0])
    ours = NEAR_ROWS / seconds
    line("near duplicates: recall, a tenth of the words changed", "share", recall(rows, gone), 0.9)
    for peer, script in (("datasketch", DATASKETCH), ("datatrove", DATATROVE)) if PEERS.exists() else ():
        their_seconds, their_gone = peer_near(script, rows)
        theirs = NEAR_ROWS / their_seconds
        found = {"peer": peer, "theirs": round(theirs, 1), "ratio": round(ours / theirs, 2)}
        shares = {"our_recall": round(recall(rows, gone), 4), "their_recall": round(recall(rows, their_gone), 4)}
        line("near duplicates", "rows/s", ours, 3.0, **found, **shares)


def pipeline_figures(folder: Path, soak: bool) -> None:
    """Rows a second and peak memory of a whole preparation, and whether time is linear."""
    spent = {}
    for count in (SMALL, LARGE) if soak else (SMALL,):
        at = folder / str(count)
        at.mkdir()
        rows = write_rows(at / "rows.jsonl", count)
        spent[count], peak = prepared(rows, at)
        line(f"prepare {count:,} rows", "rows/s", count / spent[count], 5_000)
        line(f"prepare {count:,} rows: peak memory", "MiB", peak, MOST_MEMORY_MIB[count])
        again, _ = prepared(rows, at)
        line(f"prepare {count:,} rows again, no step to do", "share of the first time", again / spent[count], 0.5)
    if soak:
        line(
            "prepare: time of ten times the rows",
            "ratio to ten times the time",
            spent[LARGE] / (10 * spent[SMALL]),
            1.15,
        )


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=("ci", "soak"), default="ci")
    parser.add_argument("--only", choices=("near", "pipeline"))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="llmops-bench-") as scratch:
        if chosen.only != "pipeline":
            near_figures(Path(scratch))
        if chosen.only != "near":
            pipeline_figures(Path(scratch), chosen.size == "soak")


if __name__ == "__main__":
    main()
