"""The SQL database of accounts, keys, batch claims and leases: SQLite or PostgreSQL, by URL."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.engine import Engine as Engine  # noqa: PLC0414 - services hold one without knowing the library
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tokentide_common.errors import InvalidRequest, Unavailable

_WAIT_FOR_LOCK_MS: Final = 10_000
_SCHEMA_LOCK: Final = 0x746F6B656E  # "token": one number that only Tokentide's schema set-up locks
_READING: Final = "tokentide_reading"


class UtcTime(sa.TypeDecorator[datetime]):
    """An aware UTC time on both databases; SQLite itself would forget the zone."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Refuse a time without a zone, and store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone is not a time")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Return UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = sa.MetaData()

organizations = sa.Table(
    "organizations",
    metadata,
    sa.Column("org_id", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("time_zone", sa.String(64), nullable=False, server_default="UTC"),
    sa.Column("created_at", UtcTime, nullable=False),
)

# A key's facts never change after its issue, except that it is revoked: whoever needs others issues a new
# key. The key directory relies on it to notice a change by counting.
api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("key_id", sa.String(64), primary_key=True),
    sa.Column("org_id", sa.String(64), sa.ForeignKey("organizations.org_id"), nullable=False, index=True),
    sa.Column("kind", sa.String(1), sa.CheckConstraint("kind IN ('m', 'p', 'a')"), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    *(
        sa.Column(name, sa.String(200), nullable=False, server_default="")
        for name in ("name", "user_id", "user_email", "machine_id", "project", "team", "department")
    ),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("revoked_at", UtcTime),
)

# The keys with which an organisation calls its providers, as ciphertext under TOKENTIDE_SECRET_KEY.
provider_credentials = sa.Table(
    "provider_credentials",
    metadata,
    sa.Column("org_id", sa.String(64), sa.ForeignKey("organizations.org_id"), primary_key=True),
    sa.Column("upstream", sa.String(64), primary_key=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Column("changed_at", UtcTime, nullable=False),
)

batch_claims = sa.Table(
    "batch_claims",
    metadata,
    sa.Column("topic", sa.String(249), primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("start_offset", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("fingerprint", sa.String(128), primary_key=True),
    sa.Column("end_offset", sa.BigInteger, nullable=False),
    sa.Column("claimed_at", UtcTime, nullable=False),
)

# Embedded only: a block between its insert and its index, which a broker in memory cannot give back.
unfinished_blocks = sa.Table(
    "unfinished_blocks",
    metadata,
    sa.Column("topic", sa.String(249), primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("token", sa.String(400), nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.String(100), primary_key=True),
    sa.Column("holder", sa.String(200), nullable=False),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("expires_at", UtcTime, nullable=False),
)


def open_database(url: str) -> Engine:
    """Return an engine on a database whose tables exist; several processes may open one at the same time.

    `sqlite:///path` (parent folders are made, WAL) or `postgresql://user:pass@host:port/db`.
    The engine is synchronous: asynchronous callers use a thread. Raises `Unavailable` when the server is
    away.
    """
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        engine = _sqlite_engine(parsed)
    elif backend == "postgresql":
        engine = _postgresql_engine(parsed)
    else:
        raise InvalidRequest(f"{backend} is neither sqlite nor postgresql", code="invalid_settings")
    with writing(engine) as connection:
        if backend == "postgresql":
            # CREATE TABLE IF NOT EXISTS can fail when two sessions create at once: they take turns.
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
        metadata.create_all(connection)
    return engine


@contextlib.contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes: committed at the end, rolled back on error; outages are `Unavailable`."""
    with _translated(), engine.begin() as connection:
        yield connection


@contextlib.contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads; on SQLite it neither waits for writers nor holds them up."""
    with _translated(), engine.connect().execution_options(**{_READING: True}) as connection:
        yield connection


def selected(engine: Engine, sql: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query without parameters, in words that both databases have."""
    with reading(engine) as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql)]


def insert_or(engine: Engine, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """Return the dialect's INSERT, which has `on_conflict_do_nothing` and `on_conflict_do_update`."""
    return sqlite.insert(table) if engine.dialect.name == "sqlite" else postgresql.insert(table)


def utc_now() -> datetime:
    """Return the current time, aware and in UTC."""
    return datetime.now(UTC)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except (DBAPIError, PoolTimeoutError) as exc:
        raise Unavailable("the accounts database is away or locked", code="database_unavailable") from exc


def _postgresql_engine(url: URL) -> Engine:
    return sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_pre_ping=True,  # a server that restarted costs no request
        pool_timeout=5,
        hide_parameters=True,  # digests and e-mail addresses stay out of error texts
        connect_args={
            "connect_timeout": 5,
            "options": f"-c statement_timeout={_WAIT_FOR_LOCK_MS} -c lock_timeout={_WAIT_FOR_LOCK_MS}",
        },
    )


def _sqlite_engine(url: URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise InvalidRequest("an SQLite database needs a file: sqlite:///path", code="invalid_settings")
    Path(url.database).expanduser().parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        url.set(database=str(Path(url.database).expanduser())),
        hide_parameters=True,
        connect_args={"timeout": _WAIT_FOR_LOCK_MS / 1000, "check_same_thread": False},
    )
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(raw: sqlite3.Connection, _record: object) -> None:
    raw.isolation_level = None  # the driver must not begin transactions by itself: `_begin_sqlite` does
    raw.execute(f"PRAGMA busy_timeout = {_WAIT_FOR_LOCK_MS}")
    raw.execute("PRAGMA foreign_keys = ON")
    # The change to WAL is made once per file and does not wait for locks: whoever loses the race tries again.
    deadline = time.monotonic() + _WAIT_FOR_LOCK_MS / 1000
    while True:
        try:
            raw.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the lock at once: a reader that became a writer later would fail instead of waiting.
    reads = connection.get_execution_options().get(_READING, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
