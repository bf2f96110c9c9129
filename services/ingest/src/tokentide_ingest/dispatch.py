"""The last step of every door: records reach their topics, and are stored where that is asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import msgspec

from tokentide_common.broker import Record
from tokentide_common.errors import Unavailable
from tokentide_common.metrics import Metrics
from tokentide_common.topics import ACTIVITY, LIMITS, USAGE
from tokentide_common.verdicts import VerdictReader, addressed
from tokentide_ingest.settings import IngestSettings

_RETRY_WHEN_SLOW_S: Final = 2
# A publish has a deadline: a large request goes in pieces that meet it, each acknowledged before the next.
_PIECE_RECORDS: Final = 1000


class Publishes(Protocol):
    """What a dispatch needs of a publisher."""

    async def publish(self, topic: str, records: Sequence[Record]) -> None:
        """Return once the broker has every record; raise `Unavailable` otherwise."""


class Parcel(msgspec.Struct, frozen=True):
    """Records for one topic, each with its index in the request."""

    topic: str
    records: list[Record]
    indices: Sequence[int]


class Dispatch:
    """Publishes. With `embedded` settings it returns when everything is stored, and not before."""

    def __init__(
        self, settings: IngestSettings, publisher: Publishes, verdicts: VerdictReader, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._publisher = publisher
        self._verdicts = verdicts
        self._publish_time = {
            topic: metrics.histogram("tokentide_broker_publish_duration_seconds", topic=topic)
            for topic in (USAGE, ACTIVITY, LIMITS)
        }
        self._publish_failures = {
            topic: metrics.counter("tokentide_broker_publish_failures_total", topic=topic)
            for topic in (USAGE, ACTIVITY, LIMITS)
        }
        self._waiting = metrics.gauge("tokentide_ingest_requests_waiting")

    async def hand_over(
        self, batch_id: str, parcels: Sequence[Parcel], *, wait_s: float = 0
    ) -> dict[int, str] | None:
        """Return once the records are as safe as they must be: the verdicts when all are in, else None.

        Whoever is ready to wait for verdicts says how long. Raises `Unavailable`.
        """
        parcels = [parcel for parcel in parcels if parcel.records]
        must_be_stored = self._settings.embedded
        if not parcels:
            return {}
        if must_be_stored and not self._verdicts.listening:
            raise Unavailable("the broker does not answer", code="broker_unavailable")
        if not (must_be_stored or wait_s) or not self._verdicts.listening:
            await self._publish(parcels)
            return None
        verdicts = await self._publish_and_wait(
            batch_id, parcels, self._settings.ingest_store_timeout_s if must_be_stored else wait_s
        )
        if verdicts is None and must_be_stored:
            # The guarantee: a broker that keeps records in memory could lose what is not stored yet, so it
            # is not acknowledged. Sent again it counts once, however often it arrived.
            raise Unavailable(
                "not stored in time; send it again", code="not_stored", retry_after_s=_RETRY_WHEN_SLOW_S
            )
        return verdicts

    async def pass_on(self, topic: str, records: Sequence[Record]) -> None:
        """Return once the broker has gauges: what is lost of them is told anew, so nobody waits for more.

        Raises `Unavailable`.
        """
        await self._publish([Parcel(topic, [*records], ())])

    async def _publish_and_wait(
        self, batch_id: str, parcels: Sequence[Parcel], timeout_s: float
    ) -> dict[int, str] | None:
        waiting = self._verdicts.expect(batch_id, [index for parcel in parcels for index in parcel.indices])
        reply_to = self._verdicts.reply_to
        try:
            await self._publish(
                [
                    Parcel(p.topic, addressed(p.records, p.indices, reply_to, batch_id), p.indices)
                    for p in parcels
                ]
            )
            with self._waiting.track_inprogress():
                return await waiting.all_in(timeout_s)
        finally:
            self._verdicts.forget(batch_id)

    async def _publish(self, parcels: Sequence[Parcel]) -> None:
        for topic, records in _pieces(parcels):
            started = time.perf_counter()
            try:
                # The guarantee: this returns when every in-sync replica has every record, or it raises.
                await self._publisher.publish(topic, records)
            except Unavailable:
                self._publish_failures[topic].inc()
                raise
            self._publish_time[topic].observe(time.perf_counter() - started)


def _pieces(parcels: Sequence[Parcel]) -> Iterator[tuple[str, Sequence[Record]]]:
    for parcel in parcels:
        for start in range(0, len(parcel.records), _PIECE_RECORDS):
            yield parcel.topic, parcel.records[start : start + _PIECE_RECORDS]
