"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
_SHORTEST_S, _LONGEST_S = 0.02, 0.5


async def until(condition: Callable[[], T | Awaitable[T]], *, within_s: float = 60.0, what: str = "") -> T:
    """Return the first truthy value of `condition` (plain or async); fail when none comes in time."""
    deadline = time.monotonic() + within_s
    while True:
        asked = time.monotonic()
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        now = time.monotonic()
        if now > deadline:
            raise AssertionError(f"not within {within_s} s: {what or condition}")
        # A question that costs something must not take the processor from what it waits for.
        await asyncio.sleep(min(max(_SHORTEST_S, 3 * (now - asked)), _LONGEST_S))
