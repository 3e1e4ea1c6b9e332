"""`Ledger`: the events that are promoted, asked or said. Appended, never changed; each with its author and time."""

from __future__ import annotations

import threading
from typing import TypeVar

import sqlalchemy as sql
from sqlalchemy.engine import Connection, Engine

from llmops.core.people import Corrected, Note
from llmops.core.serving import Endpoint, Exchange, Feedback
from llmops.core.value import Value
from llmops.core.version import Promotion, RefusedPromotion
from llmops.store.files import stored

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
}
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


def connect(url: str) -> Engine:
    """An engine whose writers wait for each other: on SQLite every transaction begins IMMEDIATE, timeout 30 s.

    The rollback journal stays on, because SQLite before 3.51.3 has a bug in its write-ahead log.
    """
    if not url.startswith("sqlite"):
        return sql.create_engine(url, pool_pre_ping=True)
    engine = sql.create_engine(url, connect_args={"timeout": 30.0, "isolation_level": None})

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    sql.event.listen(engine, "begin", begin)
    return engine


class Ledger:
    """One table of events. Several processes may append at once."""

    def __init__(self, url: str) -> None:
        self._engine = connect(url)
        self._made = False
        self._making = threading.Lock()

    def _begin(self) -> sql.engine.base.Connection:
        with self._making:
            if not self._made:
                TABLE.metadata.create_all(self._engine, checkfirst=True)
                self._made = True
        return self._engine.connect()

    def append(self, value: Value, name: str, key: str = "") -> None:
        """Add one event. `name` is what it concerns (`tone`), `key` what it can be found by (an exchange's id)."""
        row = {"kind": WORDS[type(value)], "name": name, "key": key, "body": value.model_dump_json(by_alias=True)}
        with self._begin() as connection, connection.begin():
            connection.execute(TABLE.insert().values(**row))

    def read(self, kind: type[V], name: str | None = None, key: str | None = None) -> list[V]:
        """The events of a kind, oldest first, of one name or key where given."""
        query = sql.select(TABLE.c.body).where(TABLE.c.kind == WORDS[kind]).order_by(TABLE.c.number)
        if name is not None:
            query = query.where(TABLE.c.name == name)
        if key is not None:
            query = query.where(TABLE.c.key == key)
        with self._begin() as connection, connection.begin():
            bodies = connection.execute(query).scalars().all()
        return [stored(kind, body, "an event of the ledger") for body in bodies]

    def name_of(self, kind: type[Value], key: str) -> str | None:
        """The name under which the event with this key was written, or None."""
        query = sql.select(TABLE.c.name).where(TABLE.c.kind == WORDS[kind], TABLE.c.key == key)
        with self._begin() as connection, connection.begin():
            return connection.execute(query).scalars().first()
