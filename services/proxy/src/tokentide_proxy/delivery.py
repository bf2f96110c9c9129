"""Takes records to the broker, and where the broker forgets, waits until they are stored."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from tokentide_common.broker import Record, ensure_topics
from tokentide_common.errors import Unavailable
from tokentide_common.metrics import Metrics
from tokentide_common.retry import until_it_works
from tokentide_common.topics import LIMITS, USAGE

if TYPE_CHECKING:
    from tokentide_common.verdicts import VerdictReader

_STORED_WITHIN_S: Final = 30.0
_log = structlog.get_logger(__name__)


class Publishes(Protocol):
    """What is needed of a publisher."""

    async def start(self) -> None:
        """Connect now, if the broker is there."""

    async def publish(self, topic: str, records: Sequence[Record]) -> None:
        """Return once the broker has every record; raise `Unavailable` otherwise."""


class Delivery:
    """The way to the topics, opened in the background. The publisher stays the caller's to stop."""

    def __init__(self, broker_url: str, publisher: Publishes, metrics: Metrics, *, embedded: bool) -> None:
        self._broker_url = broker_url
        self._publisher = publisher
        self._embedded = embedded
        self._verdicts = _verdict_reader(broker_url) if embedded else None
        self._opening: asyncio.Task[None] | None = None
        self._publish_time = {
            topic: metrics.histogram("tokentide_broker_publish_duration_seconds", topic=topic)
            for topic in (USAGE, LIMITS)
        }
        self._publish_failures = {
            topic: metrics.counter("tokentide_broker_publish_failures_total", topic=topic)
            for topic in (USAGE, LIMITS)
        }
        self._opened = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether the broker has been reached; it may be away again since."""
        return self._opened.is_set()

    async def opened(self) -> None:
        """Return once the broker has been reached for the first time."""
        await self._opened.wait()

    def open(self) -> None:
        """Begin to look for the broker, for as long as it takes."""
        self._opening = asyncio.create_task(self._open(), name="proxy-delivery")

    async def close(self) -> None:
        """Look no further, and hear no more verdicts."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        self._opened.clear()
        if self._verdicts is not None:
            await self._verdicts.stop()

    async def publish(self, topic: str, records: Sequence[Record]) -> None:
        """Return once the broker has every record; raise `Unavailable` otherwise."""
        if not self.is_open:
            # A broker may make an unknown topic by itself, with a number of partitions that is not ours.
            raise Unavailable("the broker does not answer yet", code="broker_unavailable")
        started = time.perf_counter()
        try:
            # The guarantee: this returns when every in-sync replica has every record, or it raises.
            await self._publisher.publish(topic, records)
        except Unavailable:
            self._publish_failures[topic].inc()
            raise
        self._publish_time[topic].observe(time.perf_counter() - started)

    async def settle(self, records: Sequence[Record]) -> None:
        """Return once nothing can be lost any more: the broker has the events, or they are stored.

        Raises `Unavailable`; sent again they count once, however often they arrived.
        """
        if self._verdicts is None:
            await self.publish(USAGE, records)
            return
        from tokentide_common.verdicts import addressed  # noqa: PLC0415 -- see `_verdict_reader`

        batch_id = uuid.uuid4().hex
        indices = range(len(records))
        waiting = self._verdicts.expect(batch_id, indices)
        try:
            await self.publish(USAGE, addressed(records, indices, self._verdicts.reply_to, batch_id))
            if await waiting.all_in(_STORED_WITHIN_S) is None:
                raise Unavailable("not stored in time", code="not_stored")
        finally:
            self._verdicts.forget(batch_id)

    async def _open(self) -> None:
        await until_it_works("topics", lambda: ensure_topics(self._broker_url, embedded=self._embedded))
        await self._publisher.start()
        if self._verdicts is not None:
            await until_it_works("verdicts", self._verdicts.start)
        self._opened.set()


def _verdict_reader(broker_url: str) -> VerdictReader:
    # Only the embedded system hears verdicts, and FastStream is a sixth of the memory of a worker.
    from tokentide_common.verdicts import VerdictReader  # noqa: PLC0415 -- as above

    return VerdictReader(broker_url)
