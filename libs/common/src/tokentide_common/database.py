"""Opens the SQL database of accounts, keys, batch claims and leases: SQLite or PostgreSQL, by URL."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.engine import Engine as Engine  # noqa: PLC0414 - services hold one without knowing the library
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from tokentide_common.database_migrations import bring_up_to_date
from tokentide_common.errors import InvalidRequest, Unavailable

_WAIT_FOR_LOCK_MS: Final = 10_000
_SCHEMA_LOCK: Final = 0x746F6B656E  # "token": one number that only Tokentide's schema set-up locks
_READING: Final = "tokentide_reading"


def open_database(url: str) -> Engine:
    """Return an engine on a database whose tables are up to date; several processes may open one at once.

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
        bring_up_to_date(connection)
    return engine


@contextlib.contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes: committed at the end, rolled back on error; outages are `Unavailable`."""
    with translated(), engine.begin() as connection:
        yield connection


@contextlib.contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads; on SQLite it neither waits for writers nor holds them up."""
    with translated(), engine.connect().execution_options(**{_READING: True}) as connection:
        yield connection


def selected(engine: Engine, sql: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query without parameters, in words that both databases have."""
    with reading(engine) as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql)]


def insert_or(engine: Engine, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """Return the dialect's INSERT, which has `on_conflict_do_nothing` and `on_conflict_do_update`."""
    return sqlite.insert(table) if engine.dialect.name == "sqlite" else postgresql.insert(table)


def open_async(url: str) -> AsyncEngine:
    """Return an asynchronous engine on a database that `open_database` has brought up to date."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        return create_async_engine(parsed.set(drivername="postgresql+psycopg"), **_postgresql_options())
    engine = create_async_engine(
        parsed.set(drivername="sqlite+aiosqlite", database=_file_of(parsed)), **_sqlite_options()
    )
    sa.event.listen(engine.sync_engine, "connect", _prepare_async_sqlite)
    sa.event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


@contextlib.asynccontextmanager
async def writing_async(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction like `writing`, without blocking the event loop."""
    with translated():
        async with engine.begin() as connection:
            yield connection


@contextlib.asynccontextmanager
async def reading_async(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction like `reading`, without blocking the event loop."""
    with translated():
        async with engine.execution_options(**{_READING: True}).connect() as connection:
            yield connection


def utc_now() -> datetime:
    """Return the current time, aware and in UTC."""
    return datetime.now(UTC)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors into `Unavailable`, but for a broken rule of the schema."""
    try:
        yield
    except IntegrityError as exc:
        _forget_values(exc)
        raise
    except (DBAPIError, PoolTimeoutError) as exc:
        _forget_values(exc)
        raise Unavailable("the accounts database is away or locked", code="database_unavailable") from exc


def _forget_values(error: SQLAlchemyError) -> None:
    """Keep only the first line of an error: PostgreSQL's DETAIL quotes rows, and errors are logged."""
    for one in (error, error.__cause__):
        if one is not None:
            one.args = tuple(str(said).partition("\n")[0] for said in one.args)


def _postgresql_engine(url: URL) -> Engine:
    return sa.create_engine(url.set(drivername="postgresql+psycopg"), **_postgresql_options())


def _postgresql_options() -> dict[str, Any]:
    return {
        "pool_pre_ping": True,  # a server that restarted costs no request
        "pool_timeout": 5,
        "hide_parameters": True,  # digests and e-mail addresses stay out of error texts
        "connect_args": {
            "connect_timeout": 5,
            "options": f"-c statement_timeout={_WAIT_FOR_LOCK_MS} -c lock_timeout={_WAIT_FOR_LOCK_MS}",
        },
    }


def _sqlite_engine(url: URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise InvalidRequest("an SQLite database needs a file: sqlite:///path", code="invalid_settings")
    file = _file_of(url)
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    options = _sqlite_options()
    options["connect_args"]["check_same_thread"] = False
    engine = sa.create_engine(url.set(database=file), **options)
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _file_of(url: URL) -> str:
    return str(Path(url.database or "").expanduser())


def _sqlite_options() -> dict[str, Any]:
    return {"hide_parameters": True, "connect_args": {"timeout": _WAIT_FOR_LOCK_MS / 1000}}


def _prepare_async_sqlite(adapted: Any, _record: object) -> None:  # noqa: ANN401 -- SQLAlchemy's adapter
    adapted.isolation_level = None  # as `_prepare_sqlite`, which has made the file's WAL before
    cursor = adapted.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_WAIT_FOR_LOCK_MS}")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


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
