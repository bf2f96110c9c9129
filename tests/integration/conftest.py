"""Loops, stores, brokers and aggregators that several files of integration tests share."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from infra.aggregators import Aggregators, Traffic
from infra.brokers import Broker
from infra.databases import Databases
from infra.stores import ClickHouseProcess
from tokentide_common.migrate import migrate
from tokentide_common.store import Store

Loops = dict[str, Callable[[], asyncio.AbstractEventLoop]]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Loops:
    loops: Loops = {"asyncio": asyncio.new_event_loop}
    if item.path.name.startswith("test_proxy_") and sys.platform != "win32":
        import uvloop

        loops = {"uvloop": uvloop.new_event_loop}
    return loops


@pytest.fixture
def with_store(store_url: str) -> Any:
    """Run a coroutine with a migrated store, inside hypothesis, which knows no async tests."""

    def run(work: Callable[[Store], Awaitable[None]]) -> None:
        async def opened() -> None:
            store = Store(store_url)
            try:
                await work(store)
            finally:
                await store.close()

        asyncio.run(opened())

    return run


@pytest.fixture(scope="module")
def shared_store_url(chdb_databases: Databases) -> Iterator[str]:
    """A migrated database that the tests of a module share."""
    with chdb_databases.migrated() as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_store(shared_store_url: str) -> AsyncIterator[Store]:
    """A store that the tests of a module only read, once it is filled: they run in one loop."""
    opened = Store(shared_store_url)
    yield opened
    await opened.close()


@pytest.fixture
def group() -> str:
    """The group of a test's aggregators: dead members of another test's would be waited for."""
    return f"aggregators-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def aggregators(
    tmp_path: Path, durable_broker: Broker, clickhouse_process: ClickHouseProcess, group: str
) -> Iterator[Aggregators]:
    """Aggregators as processes of their own; `stored` is where they count what `traffic` publishes."""
    url = clickhouse_process.database_url("tokentide")
    started = Aggregators(tmp_path, durable_broker.url, url, group=group)
    yield started
    started.stop()


@pytest.fixture
async def stored(clickhouse_process: ClickHouseProcess) -> AsyncIterator[Store]:
    opened = Store(clickhouse_process.database_url("tokentide"), timeout_s=5)
    await migrate(opened)
    yield opened
    await opened.close()


@pytest.fixture
async def traffic(durable_broker: Broker, group: str) -> AsyncIterator[Traffic]:
    sending = Traffic(durable_broker.url, group=group)
    try:
        await sending.start()
        yield sending
    finally:
        await sending.stop()
