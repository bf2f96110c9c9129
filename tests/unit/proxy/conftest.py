"""The upstream client is tried on each event loop it may run on: they differ in when they call a protocol."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import pytest

Loops = dict[str, Callable[[], asyncio.AbstractEventLoop]]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Loops:
    loops: Loops = {"asyncio": asyncio.new_event_loop}
    if item.path.name.startswith("test_upstream") and sys.platform != "win32":
        import uvloop

        loops["uvloop"] = uvloop.new_event_loop
    return loops
