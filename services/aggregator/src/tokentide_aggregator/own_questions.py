"""Questions that the aggregator asks the store of itself: asked until they are answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tokentide_common.errors import InvalidRequest, Unavailable
from tokentide_common.retry import until_available

T = TypeVar("T")


async def answered(what: str, ask: Callable[[], Awaitable[T]]) -> T:
    """Return the answer to a question of our own, waiting out an outage of `what` it is about."""

    async def once() -> T:
        try:
            return await ask()
        except InvalidRequest as exc:
            # Our own question: what a store refuses for want of memory or time, it answers later.
            raise Unavailable(exc.detail, code=exc.stable_code) from exc

    return await until_available(what, once)
