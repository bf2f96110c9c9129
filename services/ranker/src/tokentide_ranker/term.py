"""What the active ranker does during one lease: catch up, then rank whatever is announced."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from datetime import date, datetime
from itertools import chain, count, repeat
from typing import Final, TypeVar

import msgspec
import structlog
from faststream.kafka import KafkaBroker

from tokentide_common.database import Engine
from tokentide_common.errors import Retryable, TokentideError
from tokentide_common.store import Store
from tokentide_ranker.announcements import Touched, subscribe
from tokentide_ranker.lease import Lease
from tokentide_ranker.organizations import due, organizations, zone_of
from tokentide_ranker.periods import touched
from tokentide_ranker.ranker import Ranker

T = TypeVar("T")

_RETRY_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
# After a pass the ranker rests four times as long as the pass took: ranking takes a fifth of a core at most.
_REST: Final = 4
_log = structlog.get_logger(__name__)


class Parts(msgspec.Struct, frozen=True):
    """What all terms of one ranker share."""

    broker: KafkaBroker
    store: Store
    engine: Engine
    ranker: Ranker
    lease: Lease
    linger_s: float
    now: Callable[[], datetime]


async def serve_term(parts: Parts, fence: int) -> None:
    """Rank under a fence until cancelled. Raises what ends the term."""
    term = Term(parts, fence)
    subscriber = subscribe(parts.broker, term.handle)
    try:
        await subscriber.start()
        await term.catch_up()
        raise await term.failure
    finally:
        term.close()
        await subscriber.stop()


class Term:
    """One lease: its fence, and the sequence of the writes under it."""

    def __init__(self, parts: Parts, fence: int) -> None:
        self._parts = parts
        self._fence = fence
        self._sequences = count(1)
        self._caught_up = False
        self._caught_up_or_closing = asyncio.Event()
        self._closing = asyncio.Event()
        self._rested_at = 0.0
        self.failure: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    async def catch_up(self) -> None:
        """Rank what is due in every organisation: announcements may have been missed."""
        for org_id in await self._through_outages(lambda: organizations(self._parts.store)):
            await self._rank_or_give_up(org_id, None)
        self._caught_up = True
        self._caught_up_or_closing.set()

    def close(self) -> None:
        """Let nobody wait any longer: not for an outage to end, nor for a catching up that will not."""
        self._closing.set()
        self._caught_up_or_closing.set()

    async def handle(self, days: Touched) -> bool:
        """Rank what was announced; False: it must be announced again, to whoever is active then."""
        try:
            await self._caught_up_or_closing.wait()
            if not self._caught_up:
                return False
            await self._pause(self._rested_at - time.monotonic())
            started = time.monotonic()
            for org_id, utc_days in days.items():
                await self._rank_or_give_up(org_id, utc_days)
            # After the writes, not before: a ranker that slept between the two must not acknowledge.
            active = await self._through_outages(lambda: self._parts.lease.confirm(self._fence))
            finished = time.monotonic()
            self._rested_at = finished + max(self._parts.linger_s, _REST * (finished - started))
        except Exception as exc:
            # The framework would log it and go on, and its next ack would cover these announcements too.
            if not self.failure.done():
                self.failure.set_result(exc)
            return False
        return active

    async def _rank_or_give_up(self, org_id: str, days: set[date] | None) -> None:
        try:
            await self._through_outages(lambda: self._rank(org_id, days))
        except Retryable:
            raise
        except TokentideError as exc:
            # Waiting cannot help, and the other organisations should not wait with this one.
            _log.error("organization_not_ranked", org_id=org_id, code=exc.stable_code, exc_info=True)

    async def _rank(self, org_id: str, days: set[date] | None) -> None:
        parts = self._parts
        zone = await zone_of(parts.engine, org_id)
        periods = await due(parts.store, org_id, zone, parts.now()) if days is None else touched(days, zone)
        await parts.ranker.rank(org_id, zone, periods, fence=self._fence, sequence=next(self._sequences))

    async def _through_outages(self, step: Callable[[], Awaitable[T]]) -> T:
        """Do a step that may be repeated until it succeeds; raises the outage when the term closes first."""
        for wait_s in chain(_RETRY_S, repeat(_RETRY_S[-1])):
            try:
                return await step()
            except Retryable as exc:
                if self._closing.is_set():
                    raise
                _log.warning("ranking_waits", fence=self._fence, code=exc.stable_code, retry_in_s=wait_s)
                await self._pause(wait_s)
        raise AssertionError("unreachable: the waits never end")

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), max(0.0, seconds))
