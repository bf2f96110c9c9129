"""Waiting out an outage: the same work again, with full jitter, until it succeeds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from tokentide_common.errors import Unavailable

T = TypeVar("T")
_FIRST_S: Final = 0.1
_LONGEST_S: Final = 5.0
_log = structlog.get_logger(__name__)


async def until_available(stage: str, work: Callable[[], Awaitable[T]]) -> T:
    """Repeat `work` until it does not raise `Unavailable`.

    There is no limit: an outage is never a reason to skip. Cancellation ends it, when the partition is
    revoked or the service stops.
    """
    attempt = 0
    while True:
        try:
            return await work()
        except Unavailable as exc:
            attempt += 1
            wait_s = random.uniform(0, min(_LONGEST_S, _FIRST_S * 2**attempt))  # noqa: S311 -- jitter, not a secret
            _log.warning(
                "waiting_for_outage_to_end",
                stage=stage,
                attempt=attempt,
                code=exc.stable_code,
                detail=exc.detail,
            )
            await asyncio.sleep(wait_s)


async def until_it_works(stage: str, work: Callable[[], Awaitable[T]]) -> T:
    """Repeat `work` as `until_available` does, whatever it raises.

    For what a service opens beside its traffic: to give up in a task that nobody waits for would leave it up,
    useless, and silent.
    """

    async def told() -> T:
        try:
            return await work()
        except Unavailable:
            raise
        except Exception as error:
            _log.exception("background_work_failed", what=stage)
            raise Unavailable("something went wrong", code="internal_error") from error

    return await until_available(stage, told)
