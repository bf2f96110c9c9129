"""The store boundary: three verbs over ClickHouse. The only file that imports its driver.

One implementation serves a server (`clickhouse://user:pass@host:8123/db`) and the embedded engine
(`chdb:///dir`), since clickhouse-connect speaks both.
"""

from __future__ import annotations

import asyncio
import queue
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import parse_qsl, urlsplit

import clickhouse_connect
import msgspec
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from tokentide_common.errors import InvalidEvent, InvalidRequest, Unavailable

T = TypeVar("T")
Setting = str | int | Mapping[str, str]
"""The value of a setting of a question; a map is one of texts."""

# A tokenised insert must reach its table as ONE chunk: the engine recognises a repeated token only if the
# block was squashed from the same number of chunks, so a block of several parse chunks could double.
# Measured on 26.9 with blocks of 1 to 500,000 rows; tests/contract/test_store_tokens.py repeats the proof.
EXACT_INSERT: Final[Mapping[str, str | int]] = {
    "async_insert": 0,
    # Each of fifteen views looks for compiled parts of its plan: 5 % of an insert of 2,000 rows.
    "compile_aggregate_expressions": 0,
    "compile_expressions": 0,
    "date_time_input_format": "best_effort",
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "group_by_two_level_threshold": 0,
    "group_by_two_level_threshold_bytes": 0,
    "input_format_parallel_parsing": 0,
    # An event carries a few fields from which the ledger derives others (`source`, `cache_write_tokens`).
    "input_format_skip_unknown_fields": 1,
    "insert_deduplicate": 1,
    "materialized_views_ignore_errors": 0,
    "max_block_size": 4_000_000,
    "max_insert_block_size": 4_000_000,
    "max_insert_threads": 1,
    "max_partitions_per_insert_block": 0,
    "max_threads": 1,
    "min_insert_block_size_bytes": 0,
    "min_insert_block_size_bytes_for_materialized_views": 0,
    "min_insert_block_size_rows": 4_000_000,
    "min_insert_block_size_rows_for_materialized_views": 4_000_000,
    "parallel_view_processing": 0,
}
READ: Final[Mapping[str, Setting]] = {
    "date_time_output_format": "iso",
    "output_format_json_quote_64bit_integers": 0,
    "output_format_json_quote_decimals": 1,
    "use_query_condition_cache": 0,
    # To look into a copy by person for parts of the ledger finds none, and takes longer than half of a plan.
    "optimize_use_projection_filtering": 0,
    # Compiling pays for itself in no question of ours, and the third of its kind would wait for it: 100 ms.
    "compile_expressions": 0,
    "compile_aggregate_expressions": 0,
    # What one branch of a condition cannot take is not asked of it, whatever a server's profile says.
    "short_circuit_function_evaluation": "enable",
}
_ESCAPED: Final = str.maketrans({character: f"\\{character}" for character in "\\'`\t\n"})
# The block cannot be parsed, so nothing of it was written: a retry of the same bytes cannot succeed.
# Only parse errors may stand here: whoever meets one inserts the block's parts under other tokens, which
# would double what an error that came later (in a view, say) had already written.
_BLOCK_REJECTED: Final = frozenset({6, 25, 26, 27, 38, 41, 72, 117, 130})
# The question is wrong or too big for its limits: an answer of 4xx, not an outage.
_QUERY_REJECTED: Final = frozenset({43, 46, 47, 62, 158, 159, 160, 241, 307, 396, 457})


class Store:
    """A pool of connections to one database.

    `read` and `command` may run at the same time, each on a connection of its own.
    Every method raises `Unavailable` when the store is away, slow beyond `timeout_s`, read-only or full:
    the outcome of an insert is then unknown, and the same bytes under the same token may be sent again.
    """

    def __init__(self, url: str, *, connections: int = 4, timeout_s: float = 30.0) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._idle: queue.LifoQueue[Client | None] = queue.LifoQueue()
        for _ in range(connections):
            self._idle.put(None)  # opened on first use, so that a store that is away fails calls, not starts
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="store")

    async def read(
        self,
        sql: str,
        params: Mapping[str, object] | None = None,
        *,
        fmt: str = "JSONEachRow",
        settings: Mapping[str, Setting] | None = None,
    ) -> bytes:
        """Return the result of a SELECT, without SETTINGS of its own, in a ClickHouse output format.

        `params` are server-side parameters (`{name:Type}` in the SQL): values never become SQL text.
        Raises `InvalidRequest` for a question the store refuses, `Unavailable` for an outage.
        """
        # In the text of the question: given to the embedded driver beside it, each setting would be two
        # statements more, one to set it and one to take it back, which cost more than a short question.
        asked = f"{sql}\nSETTINGS {_clause({**READ, **(settings or {})})}"
        values = {name: _bound(value) for name, value in (params or {}).items()}
        answer: bytes = await self._run(lambda c: c.raw_query(asked, parameters=values, fmt=fmt))
        return answer

    async def insert(
        self,
        table: str,
        block: bytes,
        *,
        fmt: str = "JSONEachRow",
        columns: Sequence[str] = (),
        token: str | None = None,
    ) -> None:
        """Insert one block and its materialized views, as one chunk.

        With a `token`, repeating the call changes nothing, in any of the tables the block reaches,
        while the token is among the last 10,000 inserts: this is what makes a replay harmless.
        Raises `InvalidEvent` for a block the store cannot parse, `Unavailable` for an unknown outcome.
        """
        settings: dict[str, Any] = dict(EXACT_INSERT)
        if token is not None:
            settings["insert_deduplication_token"] = token
        await self._run(
            lambda c: c.raw_insert(
                table, list(columns) or None, insert_block=block, settings=settings, fmt=fmt
            ),
            inserting=True,
        )

    async def command(self, sql: str, params: Mapping[str, object] | None = None) -> None:
        """Run a statement that returns nothing: schema changes, maintenance."""
        await self._run(lambda c: c.command(sql, parameters=dict(params or {})))

    async def close(self) -> None:
        """Wait for running calls and close every connection."""
        await asyncio.to_thread(self._threads.shutdown, wait=True)
        while not self._idle.empty():
            client = self._idle.get_nowait()
            if client is not None:
                client.close()

    async def _run(self, work: Callable[[Client], T], *, inserting: bool = False) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._with_client, work, inserting)

    def _with_client(self, work: Callable[[Client], T], inserting: bool) -> T:
        client = self._idle.get()
        try:
            if client is None:
                client = connect(self._url, self._timeout_s)
            return work(client)
        except Exception as exc:
            translated = _translated(exc, inserting=inserting)
            # The store quotes a block that it cannot read: that must not get into a traceback.
            raise translated from (None if isinstance(translated, InvalidEvent) else exc)
        finally:
            self._idle.put(client)


def connect(url: str, timeout_s: float) -> Client:
    """Open one connection and make sure that its database exists."""
    parts = urlsplit(url)
    if parts.scheme == "chdb":
        # The engine's database must not depend on the connection: `?database=` names it, or the default.
        database = dict(parse_qsl(parts.query)).get("database", "tokentide")
        client = clickhouse_connect.get_client(dsn=f"chdb://{parts.path}")
        client.command(f"CREATE DATABASE IF NOT EXISTS `{database}`")
        client.database = database
        return client
    database = parts.path.strip("/") or "default"
    client = clickhouse_connect.get_client(
        host=parts.hostname or "localhost",
        port=parts.port or 8123,
        username=parts.username or "default",
        password=parts.password or "",
        secure=dict(parse_qsl(parts.query)).get("secure", "") in ("1", "true"),
        connect_timeout=min(5, timeout_s),
        send_receive_timeout=timeout_s,
        autogenerate_session_id=False,  # a session would serialise the pool
        query_retries=0,  # retries are the caller's: only it knows the token
        compress=False,
    )
    client.command(f"CREATE DATABASE IF NOT EXISTS `{database}`")
    client.database = database
    return client


class Readable(Protocol):
    """Whatever answers a SELECT like `Store.read`."""

    async def read(
        self,
        sql: str,
        params: Mapping[str, object] | None = None,
        *,
        fmt: str = "JSONEachRow",
        settings: Mapping[str, Setting] | None = None,
    ) -> bytes:
        """Return the result in a ClickHouse output format."""


async def rows(
    store: Readable,
    sql: str,
    params: Mapping[str, object] | None = None,
    *,
    settings: Mapping[str, Setting] | None = None,
) -> list[dict[str, Any]]:
    """Return a SELECT's rows as dicts: times as ISO strings, 64-bit integers as int, decimals as strings."""
    raw = await store.read(sql, params, fmt="JSONEachRow", settings=settings)
    return [msgspec.json.decode(line) for line in raw.splitlines() if line]


class _Formatted:
    """Text of a parameter in the form that the driver gives it: it passes on what it does not know by `str`.

    It escapes character by character, which took most of the time of a look-up of some thousand keys.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text


def _bound(value: object) -> object:
    if isinstance(value, str):
        return _Formatted(value.translate(_ESCAPED))
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return _Formatted("['" + "', '".join([each.translate(_ESCAPED) for each in value]) + "']")
    return value


def _clause(settings: Mapping[str, Setting]) -> str:
    """Return settings as SQL; names and values are ours."""
    return ", ".join(f"{name} = {_literal(value)}" for name, value in settings.items())


def _literal(value: Setting) -> str:
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return f"'{value.translate(_ESCAPED)}'"
    return "{" + ", ".join(f"{_literal(name)}: {_literal(text)}" for name, text in value.items()) + "}"


def _translated(exc: Exception, *, inserting: bool) -> Exception:
    if isinstance(exc, ClickHouseError) or not isinstance(exc, (TypeError, ValueError)):
        found = re.search(r"[Cc]ode:? (\d+)", str(exc))
        code = int(found[1]) if found else 0
        if inserting and code in _BLOCK_REJECTED:
            return InvalidEvent(f"the store cannot read this block (code {code})", code="block_rejected")
        if not inserting and code in _BLOCK_REJECTED | _QUERY_REJECTED:
            return InvalidRequest(f"the store refuses this query (code {code})", code="query_refused")
        return Unavailable(f"the store is away or refuses work (code {code})", code="store_unavailable")
    return exc
