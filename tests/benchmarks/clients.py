"""Clients that nobody here wrote, unchanged, against the endpoint. See `_clients.py` for what each of them does.

They are asked in `.venv-peers` (`make bench-setup`). Prints a line of JSON for each thing a client does; exit code 1
where something does not work.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.serving import MODEL, ours

PEER = Path(".venv-peers/bin/python")


def main(python: Path = PEER) -> int:
    """Start the endpoint, and let every client do everything."""
    if not python.exists():
        print(json.dumps({"client": "all", "does": "nothing", "works": None, "why": "make bench-setup was not run"}))
        return 0
    with ours() as served:
        script = str(Path(__file__).with_name("_clients.py"))
        return subprocess.run([str(python), script, served.url, served.token, MODEL], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
