"""Start a program within bounds: `python limits.py SECONDS BYTES PROGRAM...`. It is run, never imported for use."""

from __future__ import annotations

import os
import resource
import sys

WRITTEN_BYTES = 1 << 20


def main(seconds: int, memory_bytes: int, command: list[str]) -> None:
    """Become `command`, with bounds on processor time, address space and files that no later call can raise."""
    for kind, most in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, WRITTEN_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
    os.execv(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
