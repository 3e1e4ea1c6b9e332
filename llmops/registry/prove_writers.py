"""Proof of the ledger: eight processes write at once, none is turned away, none waits long, nothing is lost."""

from __future__ import annotations

import multiprocessing
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

from llmops.core.proof import CheckResult, Size, found_out
from llmops.core.serving import Feedback
from llmops.registry.prove_postgres import cluster
from llmops.store.ledger import Ledger

PROCESSES = 8
WRITES = {"ci": 100, "soak": 1000}  # of each process
P99_S = 0.25
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
# Between the look and the write of a planted fault, so that two of them meet on any machine; and so long that whoever
# is overtaken twice has waited too long, while in a queue eight would still be in time.
LOOK_S, HOLD_S = 0.005, 0.015
# Given a database's URL, gives what writes one event there.
Writer = Callable[[str], Callable[[Feedback], None]]


def appends(url: str) -> Callable[[Feedback], None]:
    """How every verb writes."""
    ledger = Ledger(url)
    return lambda event: ledger.append(event, "proof", event.exchange)


def deferred(url: str) -> Callable[[Feedback], None]:
    """A planted fault: a transaction that begins as SQLite's do by themselves, looks, and then writes."""
    return _unqueued(url, "BEGIN DEFERRED", LOOK_S)


def overtaking(url: str) -> Callable[[Feedback], None]:
    """A planted fault: no queue. SQLite's waiters sleep, ever longer, and whoever just wrote is there first."""
    return _unqueued(url, "BEGIN IMMEDIATE", HOLD_S)


def _unqueued(url: str, begin: str, look_s: float) -> Callable[[Feedback], None]:
    file = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=30.0, isolation_level=None)

    def write(event: Feedback) -> None:
        file.execute(begin)
        try:
            file.execute("SELECT max(number) FROM events").fetchone()
            time.sleep(look_s)
            row = ("feedback", "proof", event.exchange, event.model_dump_json())
            file.execute("INSERT INTO events (kind, name, key, body) VALUES (?, ?, ?, ?)", row)
            file.execute("COMMIT")
        except sqlite3.OperationalError:
            file.execute("ROLLBACK")
            raise

    return write


def sqlite(size: Size, folder: Path) -> CheckResult:
    """Eight writers to one file."""
    return written("8 processes write to SQLite at once", f"sqlite:///{folder / 'ledger.db'}", WRITES[size])


def postgresql(size: Size, folder: Path) -> CheckResult:
    """Eight writers to one server, which is started for it. `LlmopsError` where PostgreSQL is not installed."""
    with cluster() as url:
        return written("8 processes write to PostgreSQL at once", url, WRITES[size])


def planted(size: Size, folder: Path) -> CheckResult:
    """The wrong ledgers, put through the check of the right one."""
    faults = {"begins deferred": deferred, "has no queue": overtaking}
    results = {
        name: written("", f"sqlite:///{folder / f'{fault.__name__}.db'}", WRITES["ci"] // 4, fault)
        for name, fault in faults.items()
    }
    return found_out("wrong ledgers are found out", results)


def written(name: str, url: str, writes: int, writer: Writer = appends) -> CheckResult:
    """What became of the writes of all processes."""
    Ledger(url).read(Feedback)  # the table is there: a fault may not depend on who makes it
    fork = multiprocessing.get_context("fork")
    pipes = [fork.Pipe(duplex=False) for _ in range(PROCESSES)]
    start = fork.Barrier(PROCESSES)  # a large process forks slowly: the first would be done before the last begins
    workers = [
        fork.Process(target=_write, args=(url, writer, number, writes, sender, start))
        for number, (_, sender) in enumerate(pipes)
    ]
    for worker in workers:
        worker.start()
    for _, sender in pipes:
        sender.close()
    seconds, errors = [], []
    for receiver, _ in pipes:
        with closing(receiver):
            took, failed = receiver.recv()
        seconds.extend(took)
        errors.extend(failed)
    for worker in workers:
        worker.join(60)
    keys = [event.exchange for event in Ledger(url).read(Feedback, "proof")]
    of, kept = PROCESSES * writes, len(set(keys))
    p99_s = sorted(seconds)[int(0.99 * len(seconds))] if seconds else float("inf")
    said = f"; {len(errors)} refused, the first: {errors[0]}" if errors else ""
    return CheckResult(
        name=name,
        found=kept,
        of=of,
        goal=f"{of}/{of}, none twice, 99 of 100 in less than {1000 * P99_S:.0f} ms",
        passed=kept == len(keys) == of and not errors and p99_s < P99_S,
        note=f"p99 {1000 * p99_s:.0f} ms, slowest {1000 * max(seconds, default=0):.0f} ms{said}",
    )


def _write(url: str, writer: Writer, worker: int, writes: int, sender: Connection, start: Barrier) -> None:
    write = writer(url)
    took, failed = [], []
    start.wait(60)
    for number in range(writes):
        event = Feedback(exchange=f"{worker}-{number}", thumb="up", author="proof", at=NOON)
        began = time.perf_counter()
        try:
            write(event)
        except Exception as error:  # whatever a writer meets is what is counted
            failed.append(str(error).splitlines()[0])
        else:
            took.append(time.perf_counter() - began)
    sender.send((took, failed))
    sender.close()
