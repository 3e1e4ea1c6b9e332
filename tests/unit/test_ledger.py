"""The ledger under attack: many writers at once, killed writers, other databases' rows."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from llmops.core.errors import LlmopsError, RequestError
from llmops.core.serving import Exchange, Feedback
from llmops.core.version import Promotion, champion
from llmops.registry.prove_postgres import cluster, programs
from llmops.store.ledger import Ledger, turn
from tests.unit.sample_values import NOON, exchange, feedback


def promotion(version: int, name: str = "tone") -> Promotion:
    return Promotion(name=name, version=version, because="a test", author="ada", at=NOON)


def ledger(folder: Path) -> Ledger:
    return Ledger(f"sqlite:///{folder / 'ledger.db'}")


def test_events_come_back_in_order_by_kind_and_name(tmp_path: Path) -> None:
    events = ledger(tmp_path)
    for version in (1, 2):
        events.append(promotion(version), "tone")
        events.append(promotion(version, "other"), "other")
    events.append(exchange(1, NOON), "tone", "ex-1")
    assert [event.version for event in events.read(Promotion, "tone")] == [1, 2]
    assert len(events.read(Promotion)) == 4 and events.read(Exchange, key="ex-1") == [exchange(1, NOON)]
    assert events.name_of(Exchange, "ex-1") == "tone" and events.name_of(Exchange, "ex-2") is None
    last = champion(tuple(events.read(Promotion)), "tone")
    assert last is not None and last.version == 2


def test_every_field_survives_unicode_and_quotes_included(tmp_path: Path) -> None:
    said = feedback(1, NOON, edit="Robert'); DROP TABLE events;-- \u4e2d\u6587 \U0001f600 \x00 \u2028")
    ledger(tmp_path).append(said, "tone")
    assert ledger(tmp_path).read(Feedback, "tone") == [said]


def write_some(folder: Path, worker: int, count: int) -> None:
    events = ledger(folder)
    for number in range(count):
        events.append(exchange(worker * 1000 + number, NOON), "tone", f"ex-{worker * 1000 + number}")


def test_four_processes_of_fifty_writes_lose_nothing_and_none_is_locked_out(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")  # each makes the table for itself, at once
    workers = [fork.Process(target=write_some, args=(tmp_path, number, 50)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 4
    found = [event.id for event in ledger(tmp_path).read(Exchange, "tone")]
    assert len(found) == len(set(found)) == 200
    for number in range(4):  # each writer's own order is kept
        own = [event for event in found if int(event[3:]) // 1000 == number]
        assert own == sorted(own, key=lambda event: int(event[3:]))


def test_threads_that_share_a_ledger_lose_nothing(tmp_path: Path) -> None:
    events = ledger(tmp_path)

    def work(worker: int) -> None:
        for number in range(25):
            events.append(exchange(worker * 100 + number, NOON), "tone")
            events.read(Promotion, "tone")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(events.read(Exchange, "tone")) == 200


def write_forever(folder: Path) -> None:
    events = ledger(folder)
    for number in range(1_000_000):
        events.append(exchange(number, NOON), "tone")
        (folder / "written").write_text(str(number + 1))


def test_a_writer_that_is_killed_loses_no_finished_event_and_leaves_no_half_one(tmp_path: Path) -> None:
    for round_ in range(6):
        folder = tmp_path / str(round_)
        folder.mkdir()
        worker = multiprocessing.get_context("fork").Process(target=write_forever, args=(folder,))
        worker.start()
        while not (folder / "written").exists():
            time.sleep(0.005)
        time.sleep(0.013 * round_)
        os.kill(worker.pid or 0, signal.SIGKILL)
        worker.join(10)
        promised = int((folder / "written").read_text() or 0)
        events = ledger(folder)
        found = events.read(Exchange)
        assert len(found) in (promised, promised + 1) or promised == 0
        assert [event.id for event in found] == [f"ex-{number}" for number in range(len(found))]
        events.append(promotion(1), "tone")
        assert len(events.read(Promotion)) == 1


def test_a_ledger_writes_ahead_and_is_one_file_again_once_it_is_closed(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    with closing(sqlite3.connect(file)) as old:  # as an earlier release left it
        assert old.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    events = ledger(tmp_path)
    events.append(promotion(1), "tone")
    with events._engine.connect() as own:
        assert own.exec_driver_sql("PRAGMA journal_mode").fetchone() == ("wal",)
        assert own.exec_driver_sql("PRAGMA synchronous").fetchone() == (2,)  # FULL
    events._engine.dispose()
    alone = tmp_path / "copied.db"
    alone.write_bytes(file.read_bytes())
    with closing(sqlite3.connect(alone)) as raw:
        assert raw.execute("SELECT kind, name FROM events").fetchall() == [("promotion", "tone")]


def test_who_has_just_had_the_ledger_stands_behind_those_who_wait(tmp_path: Path) -> None:
    queue, order, waits = tmp_path / "ledger.db.lock", [], threading.Event()

    def wait() -> None:
        waits.set()
        with turn(queue):
            order.append("waiter")

    other = threading.Thread(target=wait)
    with turn(queue):
        other.start()
        waits.wait()
        time.sleep(0.1)  # it stands at the lock now
    with turn(queue):
        order.append("again")
    other.join(10)
    assert order == ["waiter", "again"]


def test_no_commit_falls_outside_a_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What SQLite before 3.51.3 needs of whoever writes ahead: others meet an idle file."""
    events, idle, last = ledger(tmp_path), [], [0]
    log = tmp_path / "ledger.db-wal"

    @contextmanager
    def watched(queue: Path) -> Iterator[None]:
        before = log.stat().st_mtime_ns if log.exists() else 0
        idle.append(before == last[-1])
        with turn(queue):
            yield
        last.append(log.stat().st_mtime_ns)

    monkeypatch.setattr("llmops.store.ledger.turn", watched)
    for number in range(40):
        events.append(promotion(number), "tone")
    assert len(idle) == 40 and all(idle)


def test_a_writer_waits_for_one_that_holds_the_lock(tmp_path: Path) -> None:
    events = ledger(tmp_path)
    events.append(promotion(1), "tone")
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.5, lambda: other.execute("COMMIT")).start()
    start = time.monotonic()
    events.append(promotion(2), "tone")
    assert time.monotonic() - start > 0.3 and len(events.read(Promotion)) == 2
    other.close()


def test_a_value_of_no_known_kind_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        ledger(tmp_path).append(exchange(1, NOON).sampling, "tone")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with cluster() as url:
        yield url


def test_postgresql_keeps_every_field_in_order_for_several_processes_that_make_the_table_at_once(server: str) -> None:
    said = feedback(1, NOON, edit="Robert'); DROP TABLE events;-- \u4e2d\u6587 \U0001f600 \x00 \u2028 %s")
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=write_to, args=(server, number)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 6
    events = Ledger(server)
    events.append(said, "other", "ex-1")
    assert events.read(Feedback, "other") == [said] and events.name_of(Feedback, "ex-1") == "other"
    found = [event.id for event in events.read(Exchange, "tone")]
    assert sorted(found) == sorted(f"ex-{worker * 10 + number}" for worker in range(6) for number in range(10))
    assert set(events.find(Exchange, [*found, "ex-none"])) == set(found)


def write_to(url: str, worker: int) -> None:
    events = Ledger(url)
    for number in range(worker * 10, worker * 10 + 10):
        events.append(exchange(number, NOON), "tone", f"ex-{number}")


def test_a_ledger_that_cannot_be_reached_says_so_without_the_password(tmp_path: Path) -> None:
    away = Ledger(f"postgresql://ada:secret-word@/tone?host={tmp_path}")
    with pytest.raises(LlmopsError, match="cannot be opened") as caught:
        away.read(Promotion)
    assert "secret-word" not in str(caught.value) and "LLMOPS_DATABASE_URL" in caught.value.fix


@pytest.mark.parametrize("url", ["nonsense secret-word", "mysql://ada:secret-word@host/tone", "oracle+none://h"])
def test_another_database_is_refused_in_two_lines(url: str) -> None:
    with pytest.raises(RequestError) as caught:
        Ledger(url)
    assert "secret-word" not in str(caught.value) and "postgresql://" in caught.value.fix


def test_events_are_found_by_many_keys_at_once(tmp_path: Path) -> None:
    events = ledger(tmp_path)
    for number in range(3):
        events.append(exchange(number, NOON), "tone", f"ex-{number}")
    keys = [f"ex-{number}" for number in range(1200)]
    assert list(events.find(Exchange, keys)) == ["ex-0", "ex-1", "ex-2"] and events.find(Exchange, []) == {}
