"""Where the peers live that benchmarks compare with: `make bench-setup`, or `$LLMOPS_PEERS`."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(os.environ.get("LLMOPS_PEERS", ROOT / ".venv-peers")) / "bin"
PEERS = PROGRAMS / "python"
