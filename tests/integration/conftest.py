"""The proxy is tried on the event loop that it runs on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import pytest

Loops = dict[str, Callable[[], asyncio.AbstractEventLoop]]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Loops:
    loops: Loops = {"asyncio": asyncio.new_event_loop}
    if item.path.name.startswith("test_proxy_") and sys.platform != "win32":
        import uvloop

        loops = {"uvloop": uvloop.new_event_loop}
    return loops
