"""The verb `load`: how many people a version serves on this machine."""

from __future__ import annotations

import os
import platform
import secrets
import tempfile
from collections.abc import Sequence

from llmops.core.capacity import Capacity, Need
from llmops.core.dataset import Message
from llmops.core.errors import RequestError
from llmops.pipeline.engines import served
from llmops.store.ledger import Ledger
from llmops.store.workspace import Workspace


def measure_load(name: str, at: Workspace, need: Need, levels: Sequence[int] = (1, 8, 32, 64)) -> Capacity:
    """Measure a version under load on this machine: its own held-out questions, asked by so many readers at once.

    A measurement is no traffic: its exchanges go into a ledger that is thrown away.
    """
    from llmops.serving.load import ask_all, fit_law, replicas
    from llmops.serving.serve import ServeSettings, running

    one = served(name, at)
    token = secrets.token_urlsafe(32)
    prompts = questions(name, at)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="llmops-load-") as scratch,
            running([one], Ledger(f"sqlite:///{scratch}/ledger.db"), ServeSettings(token=token), at.world) as url,
        ):
            ask_all(url, token, one.version, prompts, 1)  # fills caches, and does not count
            tracked = at.world.track(levels, "asking with more and more readers", len(levels))
            points = tuple(ask_all(url, token, one.version, prompts, readers) for readers in tracked)
    finally:
        one.engine.close()
    answers_s, count = replicas(points, need)
    return Capacity(
        version=one.version,
        engine=one.engine.name,
        machine=f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}",
        points=points,
        law=fit_law(points),
        need=need,
        replica_answers_s=answers_s,
        replicas=count,
    )


def questions(name: str, at: Workspace) -> list[tuple[Message, ...]]:
    """What a version is asked under load: its held-out questions; for a base, which has none, some of our own."""
    from llmops.registry.names import resolve
    from llmops.store.catalogue import BASES

    if name in BASES:
        return [(Message(role="user", content=f"Tell me a story about the number {one}."),) for one in range(128)]
    rows = at.rows(resolve(at, name).dataset, "heldout")[:128]
    found = [row.prompt for row in rows if row.prompt]
    if not found:
        raise RequestError(f"{name} has no held-out questions to ask", "load a version that answers questions")
    return found
