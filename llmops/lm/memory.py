"""How much memory is left: of the machine, and of the control group that a container or a job lives in."""

from __future__ import annotations

from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
# Version 2, then 1: the limit, what is used, and the name of what the kernel drops before it kills.
LAYOUTS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)
NO_LIMIT = 2**60  # version 1 says "none" with a huge number


def free_bytes(root: Path = CGROUP) -> int:
    """Bytes that can still be taken before the kernel has to kill somebody."""
    import psutil

    available = int(psutil.virtual_memory().available)
    group = group_free_bytes(root)
    return available if group is None else min(available, group)


def group_free_bytes(root: Path = CGROUP) -> int | None:
    """What is left of the control group's limit; None where there is no limit. Pages of files count as free."""
    for limit_name, used_name, cache_name in LAYOUTS:
        limit, used = root / limit_name, root / used_name
        if limit.is_file() and used.is_file():
            text = limit.read_text().strip()
            if text == "max" or int(text) >= NO_LIMIT:
                return None
            stat = (used.parent / "memory.stat").read_text().split()
            cache = int(stat[stat.index(cache_name) + 1]) if cache_name in stat else 0
            return int(text) - int(used.read_text()) + cache
    return None


def resident_bytes() -> int:
    """What this process holds now."""
    import psutil

    return int(psutil.Process().memory_info().rss)
