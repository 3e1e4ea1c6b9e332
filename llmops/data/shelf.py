"""Where the work of preparations is kept between them: `steps/` of a workspace, for its owner's eyes only."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

KEPT = timedelta(days=7)


def open_shelf(root: Path) -> Path:
    """The folder, made where it is missing. It holds rows as they were read, private data and all: mode 0700."""
    home = root / "steps"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return home


def tidy(home: Path, used: Iterable[Path], now: datetime) -> None:
    """Mark what was used now, and remove what was last used more than a week ago."""
    for folder in used:
        os.utime(folder, (now.timestamp(), now.timestamp()))
    for folder in home.iterdir():
        if folder.stat().st_mtime < (now - KEPT).timestamp():
            shutil.rmtree(folder, ignore_errors=True)
