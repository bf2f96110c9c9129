"""The implementations that a contract must hold on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from infra.databases import Databases
from infra.stores import StoreService
from tokentide_common.store import Store

STORES = ("chdb", "clickhouse-process", "clickhouse-server")


@pytest.fixture(scope="session")
def process_databases(shared_clickhouse_process: StoreService) -> Iterator[Databases]:
    databases = Databases(lambda name: f"{shared_clickhouse_process.url}/{name}")
    yield databases
    databases.close()


@pytest.fixture(scope="session")
def server_databases(clickhouse_server: StoreService) -> Iterator[Databases]:
    databases = Databases(clickhouse_server.database_url)
    yield databases
    databases.close()


@pytest.fixture(params=STORES)
def any_databases(request: pytest.FixtureRequest) -> Databases:
    found: Databases = request.getfixturevalue(f"{request.param.rpartition('-')[2]}_databases")
    return found


@pytest.fixture
def any_empty_store_url(any_databases: Databases) -> Iterator[str]:
    with any_databases.new() as url:
        yield url


@pytest.fixture
def any_store_url(any_databases: Databases) -> Iterator[str]:
    with any_databases.migrated() as url:
        yield url


@pytest.fixture
async def any_empty_store(any_empty_store_url: str) -> AsyncIterator[Store]:
    store = Store(any_empty_store_url)
    yield store
    await store.close()


@pytest.fixture
async def any_store(any_store_url: str) -> AsyncIterator[Store]:
    store = Store(any_store_url)
    yield store
    await store.close()
