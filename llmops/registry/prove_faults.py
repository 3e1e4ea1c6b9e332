"""Wrong ways to register and promote, planted so that the proof of kills must find them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing

from llmops.core.version import ModelVersion, Promotion
from llmops.registry.names import answering
from llmops.registry.promote import promote
from llmops.registry.prove_sample import NAME, sample_plan, sample_report, some_files
from llmops.registry.register import next_number, register
from llmops.store.files import sha256_folder, write_json
from llmops.store.workspace import Workspace

Say = Callable[[str], None]
BETWEEN_S = 0.02  # what a real promotion does between two of its steps takes about as long


def promote_in_two_steps(at: Workspace, say: Say) -> None:
    """First an event that somebody was promoted, then who."""
    version, now = at.versions(NAME)[-1], answering(at, NAME)
    event = Promotion(
        name=NAME,
        version=version.number,
        before=now.version if now else None,
        because="a proof",
        author="proof",
        at=at.world.clock(),
    )
    with closing(sqlite3.connect(at.root / "ledger.db", timeout=30.0, isolation_level=None)) as file:
        row = ("promotion", NAME, "", "{}")
        number = file.execute("INSERT INTO events (kind, name, key, body) VALUES (?, ?, ?, ?)", row).lastrowid
        time.sleep(BETWEEN_S)
        file.execute("UPDATE events SET body = ? WHERE number = ?", (event.model_dump_json(), number))
    say(f"promoted {version.number}")


def promote_after_saying_so(at: Workspace, say: Say) -> None:
    """Acknowledged before it is written."""
    version = at.versions(NAME)[-1]
    say(f"promoted {version.number}")
    time.sleep(BETWEEN_S)
    promote(at, version, None, because="a proof")


def promote_before_the_version(at: Workspace, say: Say) -> None:
    """The next version is promoted, and then made."""
    now = answering(at, NAME)
    number = next_number(at, NAME)
    event = Promotion(
        name=NAME,
        version=number,
        before=now.version if now else None,
        because="a proof",
        author="proof",
        at=at.world.clock(),
    )
    at.ledger.append(event, NAME)
    say(f"promoted {number}")
    time.sleep(BETWEEN_S)
    register(at, sample_plan(), sample_report([True]), some_files())


def register_in_place(at: Workspace, say: Say) -> None:
    """The version's folder grows where everybody looks, its card first."""
    made: ModelVersion = register(at, sample_plan(), sample_report([True]), some_files())
    version = made.replace(number=made.number + 1)
    folder = at.version_folder(version.ref)
    folder.mkdir()
    write_json(folder / "version.json", version.to_json())
    time.sleep(BETWEEN_S)
    some_files()(folder)
    assert sha256_folder(folder)
    say(f"version {version.number}")


# What is wrong: which of the two acts, and how it is done there.
FAULTS: dict[str, tuple[str, Callable[[Workspace, Say], None]]] = {
    "an event in two steps": ("promote", promote_in_two_steps),
    "acknowledged before it is written": ("promote", promote_after_saying_so),
    "an alias before its version": ("promote", promote_before_the_version),
    "a version made in place": ("register", register_in_place),
}
