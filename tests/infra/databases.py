"""Databases with the schema, lent to one test after another: to empty one is cheaper than to make one."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from tokentide_common.migrate import migrate
from tokentide_common.store import Store, connect

LENT = "test_"
"""What the names of these databases begin with."""
_EMPTY = "TRUNCATE ALL TABLES FROM {name} NOT LIKE 'schema_migrations'"
_LAYOUT = (
    "SELECT name, replaceAll(create_table_query, '{name}.', '') FROM system.tables "
    "WHERE database = '{name}' ORDER BY name"
)
_REWRITTEN = "SELECT table, mutation_id FROM system.mutations WHERE database = '{name}'"


class Databases:
    """The databases of one store; `url_of` says the URL of a database by its name."""

    def __init__(self, url_of: Callable[[str], str]) -> None:
        self._url_of = url_of
        self._client = connect(url_of("default"), 30)
        self._layout: Any = None
        self._empty: list[str] = []

    def close(self) -> None:
        self._client.close()

    @contextlib.contextmanager
    def new(self) -> Iterator[str]:
        """Lend the URL of a database that does not exist yet."""
        name = f"{LENT}{uuid.uuid4().hex[:12]}"
        yield self._url_of(name)
        self._drop(name)

    @contextlib.contextmanager
    def migrated(self) -> Iterator[str]:
        """Lend the URL of a database that has the schema and no rows; nothing in it is of an earlier test."""
        name = self._empty.pop() if self._empty else self._made()
        before = self._rows(_REWRITTEN, name)  # by migrations, until it is emptied for the first time
        yield self._url_of(name)
        # Whoever changed the schema, or rows in place, leaves more than rows behind.
        rewritten = set(self._rows(_REWRITTEN, name)) - set(before)
        if self._rows(_LAYOUT, name) == self._layout and not rewritten:
            self._client.command(_EMPTY.format(name=name))  # forgets the tokens of its inserts too
            self._empty.append(name)
        else:
            self._drop(name)

    def _made(self) -> str:
        name = f"{LENT}{uuid.uuid4().hex[:12]}"
        asyncio.run(self._migrate(name))
        self._layout = self._layout or self._rows(_LAYOUT, name)
        return name

    async def _migrate(self, name: str) -> None:
        store = Store(self._url_of(name))
        try:
            await migrate(store)
        finally:
            await store.close()

    def _rows(self, sql: str, name: str) -> list[Any]:
        return list(self._client.query(sql.format(name=name)).result_rows)

    def _drop(self, name: str) -> None:
        self._client.command(f"DROP DATABASE IF EXISTS {name}")
