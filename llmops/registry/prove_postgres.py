"""A PostgreSQL server of one's own, for as long as a proof or a test runs: Debian's, on a socket in a folder."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from llmops.core.errors import LlmopsError

DEBIAN = Path("/usr/lib/postgresql")  # the programs of each release lie in a folder of its own, outside PATH


def programs() -> Path | None:
    """The folder of `initdb` and `pg_ctl`, or None where PostgreSQL is not installed."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    releases = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return releases[-1].parent if releases else None


@contextmanager
def cluster() -> Iterator[str]:
    """The URL of a new, empty database. No port is opened; only who owns the folder's socket gets in.

    The server is stopped and its folder removed at the end. Raises `LlmopsError` where it does not start.
    """
    where = programs()
    if where is None:
        raise LlmopsError("PostgreSQL is not installed", "apt-get install postgresql")
    with tempfile.TemporaryDirectory(prefix="llmops-pg-") as name:
        folder, owner = Path(name), _owner()
        if owner is not None:
            shutil.chown(folder, owner)
        data, log = folder / "data", folder / "log"
        _call([str(where / "initdb"), "-D", str(data), "-A", "trust", "-U", "llmops", "-E", "UTF8", "--no-sync"], owner)
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}'"
        control = [str(where / "pg_ctl"), "-D", str(data), "-w", "-t", "60"]
        _call([*control, "-l", str(log), "-o", options, "start"], owner)
        try:
            yield f"postgresql://llmops@/postgres?host={folder}"
        finally:
            _call([*control, "-m", "immediate", "stop"], owner)


def _owner() -> str | None:
    """The server refuses to run as root: then Debian's user of it does, or nobody."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _call(command: Sequence[str], owner: str | None) -> None:
    # Into a file, not a pipe: the server inherits it, and a pipe would never end.
    with tempfile.TemporaryFile("w+") as said:
        done = subprocess.run(command, stdout=said, stderr=said, user=owner, cwd="/", check=False)
        said.seek(0)
        if done.returncode:
            last = said.read().strip().splitlines()[-1:] or ["no reason was given"]
            raise LlmopsError(f"{Path(command[0]).name} failed: {last[0]}", "see whether PostgreSQL is installed whole")
