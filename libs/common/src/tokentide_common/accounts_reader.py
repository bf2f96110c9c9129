"""Reads the accounts database with its driver alone.

SQLAlchemy takes 20 MB of every process that loads it, a quarter of what a worker of the proxy took, and all
that a worker asks of it are three queries without parameters, and to note when keys were used. It creates
nothing: whoever makes the first organisation makes the tables.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, unquote

import msgspec

from tokentide_common.errors import InvalidRequest, Unavailable

_TIMEOUT_S: Final = 10
_KEY_ID: Final = re.compile(r"\w{1,64}", re.ASCII)
# As SQLAlchemy reads it, so that one setting means the same to every service.
_URL: Final = re.compile(
    r"(?P<dialect>\w+)(?:\+\w+)?://"
    r"(?:(?P<user>[^:/]*)(?::(?P<password>[^@]*))?@)?"
    r"(?:(?:\[(?P<ipv6>[^/?]+)\]|(?P<host>[^/:?]+))?(?::(?P<port>[0-9]+))?)?"
    r"(?:/(?P<database>[^?]*))?(?:\?(?P<query>.*))?"
)


class DatabaseUrl(msgspec.Struct, frozen=True):
    """The parts of a database's URL."""

    dialect: str
    database: str
    host: str | None = None
    port: str | None = None
    user: str | None = None
    password: str | None = None
    options: dict[str, str] = {}


class _Connection(Protocol):
    def execute(self, sql: str, /) -> Iterable[Sequence[Any]]:
        """Run a query and return its rows."""

    def close(self) -> None:
        """Disconnect."""


class AccountsReader:
    """One connection, opened when it is needed; whoever asks at the same time takes turns. Blocks."""

    def __init__(self, url: str) -> None:
        self._dialect = parsed(url).dialect
        self._connect, self._failures = _driver(parsed(url))
        self._turn = Lock()
        self._connection: _Connection | None = None

    def select(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query; raises `Unavailable`."""
        with self._turn:
            known = self._connection is not None
            try:
                return self._rows(sql)
            except self._failures as first:
                self._drop()
                if not known:
                    raise _away(first) from first
            try:
                # The server may have restarted since the last time: that costs nobody a request.
                return self._rows(sql)
            except self._failures as again:
                self._drop()
                raise _away(again) from again

    def note_use(self, key_ids: Collection[str], at: datetime) -> None:
        """Note that keys were used at a time, if not used later already; raises `Unavailable`."""
        named = ", ".join(f"'{key_id}'" for key_id in sorted(key_ids) if _KEY_ID.fullmatch(key_id))
        if named:
            time = at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")  # as SQLite keeps times
            time = f"'{time}'" if self._dialect == "sqlite" else f"'{time}+00'"
            older = f"(last_used_at IS NULL OR last_used_at < {time})"
            changed = f"UPDATE api_keys SET last_used_at = {time} WHERE key_id IN ({named}) AND {older}"  # noqa: S608 -- checked above, and our own
            # With RETURNING both drivers' `execute` has rows to give, and nobody has to know which it is.
            self.select(f"{changed} RETURNING key_id")

    def close(self) -> None:
        """Disconnect."""
        with self._turn:
            self._drop()

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        if self._connection is None:
            self._connection = self._connect()
        return [tuple(row) for row in self._connection.execute(sql)]

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(*self._failures):
                connection.close()


def parsed(url: str) -> DatabaseUrl:
    """Return the parts of a URL; raises `InvalidRequest` for what is none of an accounts database."""
    found = _URL.fullmatch(url)
    if found is None or found["dialect"] not in {"sqlite", "postgresql"}:
        raise InvalidRequest("not the URL of an SQLite or PostgreSQL database", code="invalid_settings")
    return DatabaseUrl(
        found["dialect"],
        found["database"] or "",
        found["ipv6"] or found["host"],
        found["port"],
        None if found["user"] is None else unquote(found["user"]),
        None if found["password"] is None else unquote(found["password"]),
        dict(parse_qsl(found["query"] or "")),
    )


def _driver(url: DatabaseUrl) -> tuple[Callable[[], _Connection], tuple[type[Exception], ...]]:
    if url.dialect == "sqlite":
        return (lambda: _sqlite(url)), (sqlite3.Error,)
    # Each deployment has one database: whoever uses SQLite does not carry the other's driver.
    import psycopg  # noqa: PLC0415 -- as above

    return (lambda: _postgresql(url)), (psycopg.Error,)


def _sqlite(url: DatabaseUrl) -> _Connection:
    file = Path(url.database).expanduser().absolute()
    # `rw`: a file that is not there is no database yet, and none is made.
    connection = sqlite3.connect(
        f"{file.as_uri()}?mode=rw", uri=True, timeout=_TIMEOUT_S, check_same_thread=False
    )
    connection.isolation_level = None  # each query sees what is committed, and holds nobody up
    return connection


def _postgresql(url: DatabaseUrl) -> _Connection:
    import psycopg  # noqa: PLC0415 -- see `_driver`

    settings: dict[str, Any] = {
        "connect_timeout": 5,
        "options": f"-c statement_timeout={_TIMEOUT_S * 1000}",
        "tcp_user_timeout": _TIMEOUT_S * 1000,
        **url.options,
    }
    return psycopg.connect(
        host=url.host,
        port=url.port,
        user=url.user,
        password=url.password,
        dbname=url.database or None,
        autocommit=True,
        **settings,
    )


def _away(error: Exception) -> Unavailable:
    # Of the driver's words only their kind: a connection's error may quote how it was made.
    return Unavailable(
        f"the accounts database is away, locked or not set up yet ({type(error).__name__})",
        code="database_unavailable",
    )
