"""The implementations that a contract must hold on."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from tokentide_common.migrate import migrate
from tokentide_common.store import Store

STORES = ("chdb", "clickhouse-process", "clickhouse-server")


@pytest.fixture(params=STORES)
def any_store_url(request: pytest.FixtureRequest) -> str:
    if request.param == "chdb":
        return str(request.getfixturevalue("store_url"))
    fixture = {"clickhouse-process": "shared_clickhouse_process", "clickhouse-server": "clickhouse_server"}
    service = request.getfixturevalue(fixture[request.param])
    return str(service.database_url(f"test_{uuid.uuid4().hex[:12]}"))


@pytest.fixture
async def any_empty_store(any_store_url: str) -> AsyncIterator[Store]:
    store = Store(any_store_url)
    yield store
    await store.close()


@pytest.fixture
async def any_store(any_empty_store: Store) -> Store:
    await migrate(any_empty_store)
    return any_empty_store
