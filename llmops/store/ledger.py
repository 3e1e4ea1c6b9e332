"""`Ledger`: the events that are promoted, asked or said. Appended, never changed; each with its author and time."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sql
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError

from llmops.core.canary import CanaryEnded, CanaryStarted
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.people import Corrected, Note
from llmops.core.serving import Endpoint, Exchange, Feedback
from llmops.core.value import Value
from llmops.core.version import Promotion, RefusedPromotion
from llmops.store.files import locked, stored

V = TypeVar("V", bound=Value)

# The kinds of event, by the word that stands in the table.
KINDS: dict[str, type[Value]] = {
    "promotion": Promotion,
    "refusal": RefusedPromotion,
    "endpoint": Endpoint,
    "exchange": Exchange,
    "feedback": Feedback,
    "correction": Corrected,
    "note": Note,
    "canary": CanaryStarted,
    "canary end": CanaryEnded,
}
# Whoever reads these later finds new ones only behind those read before. PostgreSQL gives numbers before it commits, so
# their writers queue. Traffic does not, since its order is that of its times: p99 of 8 x 100 writes 550 ms in a queue,
# 40 ms without.
FOLDED = (Promotion, CanaryStarted, CanaryEnded)
WORDS = {kind: word for word, kind in KINDS.items()}

TABLE = sql.Table(
    "events",
    sql.MetaData(),
    sql.Column("number", sql.Integer, primary_key=True, autoincrement=True),
    sql.Column("kind", sql.String(16), nullable=False),
    sql.Column("name", sql.String(128), nullable=False),
    sql.Column("key", sql.String(64), nullable=False),
    sql.Column("body", sql.Text, nullable=False),
    sql.Index("events_by_kind", "kind", "name", "number"),
    sql.Index("events_by_key", "kind", "key"),
)


# The one lock that writers to a PostgreSQL ledger share: any number, the same in every process.
LOCK = 0x6C6C6D6F7073
KEYS_AT_ONCE = 500
HOW = "LLMOPS_DATABASE_URL is postgresql://USER:PASSWORD@HOST/DATABASE, or unset for SQLite in the workspace"


def connect(url: str) -> Engine:
    """An engine whose writers wait for each other, on SQLite or on PostgreSQL. Raises `RequestError` for another URL.

    On SQLite every transaction begins IMMEDIATE, timeout 30 s, and is on disk when it ends.
    """
    address = _address(url)
    if address.get_backend_name() == "sqlite":
        engine = sql.create_engine(address, connect_args={"timeout": 30.0, "isolation_level": None})
        sql.event.listen(engine, "connect", lambda opened, _: opened.execute("PRAGMA synchronous = FULL"))
        sql.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        return engine
    try:
        return sql.create_engine(address, pool_pre_ping=True, connect_args={"connect_timeout": 10})
    except ModuleNotFoundError as error:
        raise RequestError(
            f"the ledger is in PostgreSQL, but {error.name} is not installed", "pip install 'llmops[postgresql]'"
        ) from error


def _address(url: str) -> URL:
    """The URL with the driver that we use. What it says may hold a password, so an error does not repeat it."""
    try:
        address = make_url(url)
        backend = address.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise RequestError("the URL of the ledger's database cannot be read", HOW) from error
    if backend == "sqlite":
        return address
    if backend not in ("postgresql", "postgres"):
        raise RequestError(f"a ledger cannot be kept in {backend}", HOW)
    return address.set(drivername="postgresql+psycopg")


def _queue(address: URL) -> Path | None:
    """The file on which the users of an SQLite ledger wait for their turn; None where nobody else can open it.

    SQLite's own waiters sleep ever longer and overtake each other: of 8 x 100 writes the slowest waited 10.8 s.
    """
    if address.get_backend_name() != "sqlite" or address.database in (None, "", ":memory:"):
        return None
    return Path(f"{address.database}.lock")


@contextmanager
def turn(queue: Path) -> Iterator[None]:
    """Nobody else has the ledger meanwhile, and who just had it stands behind those who wait.

    One lock alone can be taken again before a waiter has woken: of 8 x 100 writes the slowest waited 10.9 s.
    """
    with ExitStack() as held:
        with locked(queue.with_suffix(".next")):
            held.enter_context(locked(queue))
        yield


def log_ahead(connection: Connection) -> None:
    """Let SQLite write ahead: one fsync a commit instead of four (4 ms each on a plain disk), and a power cut
    cannot undo it, while nothing syncs the removal of a rollback journal.

    SQLite before 3.51.3 can damage such a file where two connections write or checkpoint at the same instant
    (https://sqlite.org/wal.html#walresetbug). Here none do: a commit and the checkpoint that it may make end before
    the turn does, and a connection that closes checkpoints only where it is the last. So this is for who holds the
    turn, and the file for one machine; several share PostgreSQL.
    """
    opened = connection.connection.driver_connection
    if opened is not None:
        opened.execute("PRAGMA journal_mode = WAL")  # stays in the file


class Ledger:
    """One table of events. Several processes may append at once."""

    def __init__(self, url: str) -> None:
        self._engine = connect(url)
        self._queue = _queue(self._engine.url)
        self._made = False
        self._making = threading.Lock()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """A transaction on the table, which is made where it is missing."""
        alone = turn(self._queue) if self._queue else nullcontext()
        with self._reached() as connection, alone:
            if self._queue and not self._made:
                log_ahead(connection)
            with connection.begin():
                self._make(connection)
                yield connection

    def _make(self, connection: Connection) -> None:
        with self._making:
            if not self._made:
                self._lock(connection)  # PostgreSQL: two processes that make the table at once would collide
                TABLE.metadata.create_all(connection, checkfirst=True)
                self._made = True

    @contextmanager
    def _reached(self) -> Iterator[Connection]:
        try:
            connection = self._engine.connect()
        except OperationalError as error:
            where, why = self._engine.url.render_as_string(), str(error.orig).strip().splitlines()[0]
            raise LlmopsError(f"the ledger at {where} cannot be opened: {why}", HOW) from error
        with connection:
            yield connection

    def _lock(self, connection: Connection) -> None:
        """Wait for others who do the same until the end of the transaction; on SQLite its beginning did so."""
        if connection.dialect.name == "postgresql":
            connection.execute(sql.select(sql.func.pg_advisory_xact_lock(LOCK)))

    def append(self, value: Value, name: str, key: str = "") -> None:
        """Add one event. `name` is what it concerns (`tone`), `key` what it can be found by (an exchange's id)."""
        row = {"kind": WORDS[type(value)], "name": name, "key": key, "body": value.model_dump_json(by_alias=True)}
        with self._transaction() as connection:
            if isinstance(value, FOLDED):
                self._lock(connection)
            connection.execute(TABLE.insert().values(**row))

    def read(self, kind: type[V], name: str | None = None, key: str | None = None) -> list[V]:
        """The events of a kind, oldest first, of one name or key where given."""
        query = sql.select(TABLE.c.body).where(TABLE.c.kind == WORDS[kind]).order_by(TABLE.c.number)
        if name is not None:
            query = query.where(TABLE.c.name == name)
        if key is not None:
            query = query.where(TABLE.c.key == key)
        with self._transaction() as connection:
            bodies = connection.execute(query).scalars().all()
        return [stored(kind, body, "an event of the ledger") for body in bodies]

    def find(self, kind: type[V], keys: Sequence[str]) -> dict[str, V]:
        """The last event of a kind with each key, where there is one."""
        found: dict[str, V] = {}
        with self._transaction() as connection:
            for start in range(0, len(keys), KEYS_AT_ONCE):
                query = (
                    sql.select(TABLE.c.key, TABLE.c.body)
                    .where(TABLE.c.kind == WORDS[kind], TABLE.c.key.in_(keys[start : start + KEYS_AT_ONCE]))
                    .order_by(TABLE.c.number)
                )
                rows = connection.execute(query).all()
                found |= {key: stored(kind, body, "an event of the ledger") for key, body in rows}
        return found

    def name_of(self, kind: type[Value], key: str) -> str | None:
        """The name under which the event with this key was written, or None."""
        query = sql.select(TABLE.c.name).where(TABLE.c.kind == WORDS[kind], TABLE.c.key == key)
        with self._transaction() as connection:
            return connection.execute(query).scalars().first()
