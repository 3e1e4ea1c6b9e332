"""How long a person waits for the command line to say anything: `llmops --help`, `import llmops`. Quickest of ten.

The peer is `trl --help`, where `make bench-setup` has installed it. Prints one JSON line a figure.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from collections.abc import Sequence

from tests.benchmarks.places import PEERS, PROGRAMS

GOAL_S = 0.5
TIMES = 10


def quickest_s(command: Sequence[str], times: int = TIMES) -> float:
    """Seconds of the quickest of several runs, each a fresh process; the first, which fills caches, does not count."""
    spent = []
    for _ in range(times + 1):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        spent.append(time.perf_counter() - began)
    return min(spent[1:])


def line(benchmark: str, ours: Sequence[str], theirs: Sequence[str] | None) -> str:
    """One figure as JSON."""
    ours_s = quickest_s(ours)
    theirs_s = quickest_s(theirs, times=3) if theirs else None
    figure = {
        "benchmark": benchmark,
        "unit": "s",
        "ours": round(ours_s, 3),
        "peer": "trl" if theirs else None,
        "theirs": None if theirs_s is None else round(theirs_s, 3),
        "ratio": None if theirs_s is None else round(theirs_s / ours_s, 2),
        "goal": GOAL_S,
        "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
    }
    return json.dumps(figure)


def main() -> None:
    """Print both figures."""
    peer = PROGRAMS / "trl"
    python = [sys.executable, "-c"]
    print(
        line(
            "llmops --help",
            [sys.executable, "-m", "llmops", "--help"],
            [str(peer), "--help"] if peer.exists() else None,
        )
    )
    their_import = [str(PEERS), "-c", "import trl"] if peer.exists() else None
    print(line("import llmops", [*python, "import llmops"], their_import))


if __name__ == "__main__":
    main()
