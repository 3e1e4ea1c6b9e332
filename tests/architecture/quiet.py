"""What a piece of Python loads, asked of a fresh interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HEAVY = (
    "torch",
    "transformers",
    "peft",
    "datasets",
    "sklearn",
    "scipy",
    "pandas",
    "gradio",
    "sqlalchemy",
    "fastapi",
    "plotly",
)
REPORT = "\nimport json, sys; sys.stderr.write('\\n' + json.dumps(sorted(sys.modules)))"


def heavy_modules(code: str, path: Path) -> list[str]:
    """The heavy libraries that are loaded after `code` has run with `path` on the import path."""
    done = subprocess.run(
        [sys.executable, "-c", code + REPORT],
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    loaded = {name.partition(".")[0] for name in json.loads(done.stderr.splitlines()[-1])}
    return sorted(loaded & set(HEAVY))
