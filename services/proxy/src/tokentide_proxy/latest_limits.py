"""Rate limits on their way to their topic: gauges, of which the latest value is worth sending.

Every answer tells a dozen of them; read and sent one by one they would be ten times the work of the events.
So of each key, account and model the latest answer is kept, and read once a second. What the broker does not
take is overtaken in memory instead of spooled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

import structlog

from tokentide_common.errors import Unavailable
from tokentide_common.limit_facts import LimitFact, encode_limit_fact, gauge_of, key_of
from tokentide_common.outbox import Record
from tokentide_common.topics import LIMITS
from tokentide_proxy.delivery import Delivery
from tokentide_proxy.exchange import Headers, Observer
from tokentide_proxy.limit_headers import account_of, limit_facts, tells_limits

_EVERY_S: Final = 1.0
_MOST: Final = 2000
_log = structlog.get_logger(__name__)


class LatestLimits:
    """The latest answer of each key, account and model since the last time limits were sent."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._latest: dict[tuple[str | bytes, ...], tuple[Headers, Observer]] = {}
        self._some = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def take(self, headers: Headers, seen: Observer) -> None:
        """Replace what was known by what these headers say; those that say nothing replace nothing."""
        if not tells_limits(headers):
            return
        # Behind one key of ours there may be several subscriptions.
        speaker = (seen.org_id, seen.provider, seen.key_id, seen.model, account_of(headers, seen))
        if speaker in self._latest or len(self._latest) < _MOST:
            self._latest[speaker] = (headers, seen)
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
            await self._delivery.publish(LIMITS, _records(sent.values()))
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


def _records(answers: Iterable[tuple[Headers, Observer]]) -> list[Record]:
    """Return a record for each limit that the answers tell, the latest word of each."""
    latest: dict[tuple[str, ...], LimitFact] = {}
    for headers, seen in sorted(answers, key=lambda answer: answer[1].observed_at):
        for fact in limit_facts(headers, seen):
            latest[gauge_of(fact)] = fact
    return [Record(key_of(fact), encode_limit_fact(fact)) for fact in latest.values()]
