"""Rate limits on their way to their topic: gauges, of which the latest value is worth sending.

Every answer tells a dozen of them; sent one by one they would be ten times the traffic of the events. So they
go out once a second, and what the broker does not take is overtaken in memory instead of spooled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from tokentide_common.errors import Unavailable
from tokentide_common.limit_facts import LimitFact, encode_limit_fact, key_of
from tokentide_common.outbox import Record
from tokentide_common.topics import LIMITS
from tokentide_proxy.delivery import Delivery

_EVERY_S: Final = 1.0
_MOST: Final = 20_000
_log = structlog.get_logger(__name__)


class LatestLimits:
    """The latest fact of each limit since the last time they were sent."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._latest: dict[tuple[str, ...], LimitFact] = {}
        self._some = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def take(self, facts: Sequence[LimitFact]) -> None:
        """Replace what was known of these limits."""
        latest = self._latest
        for fact in facts:
            gauge = (fact.org_id, fact.provider, fact.account_id or fact.key_id, fact.kind)
            if gauge in latest or len(latest) < _MOST:
                latest[gauge] = fact
        if latest:
            self._some.set()

    def start(self) -> None:
        """Begin to send."""
        self._task = asyncio.create_task(self._run(), name="proxy-limits")

    async def flush(self) -> None:
        """Send what there is, now. Never raises for the broker's sake."""
        sent, self._latest = self._latest, {}
        self._some.clear()
        if not sent:
            return
        try:
            await self._delivery.publish(
                LIMITS, [Record(key_of(fact), encode_limit_fact(fact)) for fact in sent.values()]
            )
        except Unavailable:
            self._latest = {**sent, **self._latest}
            self._some.set()
        except Exception:
            _log.exception("limits_not_published")

    async def stop(self) -> None:
        """Send no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._some.wait()
            await self.flush()
            await asyncio.sleep(_EVERY_S)
