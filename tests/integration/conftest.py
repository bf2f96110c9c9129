"""The proxy is tried on the event loop that it runs on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

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
def linking(store_url: str) -> Any:
    """Run a coroutine with a migrated store, inside hypothesis, which knows no async tests."""

    def run(work: Callable[[Store], Awaitable[None]]) -> None:
        async def opened() -> None:
            store = Store(store_url)
            try:
                await migrate(store)
                await work(store)
            finally:
                await store.close()

        asyncio.run(opened())

    return run
