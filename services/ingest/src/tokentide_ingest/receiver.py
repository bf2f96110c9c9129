"""One batch from its body to its answer: read, judge, publish, and wait for verdicts where that is wanted."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec
import structlog
from litestar.types import Receive

from tokentide_common.accounts import KeyRecord
from tokentide_common.broker import Record
from tokentide_common.database import utc_now
from tokentide_common.errors import Unavailable
from tokentide_common.metrics import Metrics
from tokentide_common.topics import USAGE
from tokentide_ingest.batch import Batch, Rejection, read_batch
from tokentide_ingest.body import read_body
from tokentide_ingest.limits import ByteBudget
from tokentide_ingest.prefer import wait_preference
from tokentide_ingest.settings import IngestSettings
from tokentide_ingest.verdicts import VerdictReader, addressed

_RETRY_WHEN_SLOW_S: Final = 2
_log = structlog.get_logger(__name__)


class Publishes(Protocol):
    """What the receiver needs of a publisher."""

    async def publish(self, topic: str, records: Sequence[Record]) -> None:
        """Return once the broker has every record; raise `Unavailable` otherwise."""


class BatchAnswer(msgspec.Struct, omit_defaults=True):
    """The body of an answer. `verdicts[i]` says what became of `events[i]`, where the sender waited."""

    batch_id: str
    accepted: int
    rejected: list[Rejection]
    stored: bool = False
    verdicts: list[str] | None = None

    @property
    def status(self) -> int:
        """200 when all of it is stored, as the sender asked for; 202 when the broker has it."""
        return 200 if self.stored else 202


class BatchReceiver:
    """Receives batches. With `embedded` settings it acknowledges what is stored and nothing else."""

    def __init__(
        self, settings: IngestSettings, publisher: Publishes, verdicts: VerdictReader, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._publisher = publisher
        self._verdicts = verdicts
        self._budget = ByteBudget(settings.ingest_bytes_in_flight)
        self._accepted = metrics.counter("tokentide_ingest_events_total", source="cli", outcome="accepted")
        self._rejected = metrics.counter("tokentide_ingest_events_total", source="cli", outcome="rejected")
        self._publish_time = metrics.histogram("tokentide_broker_publish_duration_seconds", topic=USAGE)
        self._publish_failures = metrics.counter("tokentide_broker_publish_failures_total", topic=USAGE)
        self._waiting = metrics.gauge("tokentide_ingest_requests_waiting")
        metrics.gauge("tokentide_ingest_bytes_in_flight").set_function(lambda: self._budget.held)

    async def receive(self, key: KeyRecord, headers: Mapping[str, str], receive: Receive) -> BatchAnswer:
        """Return the answer for a batch; raises the errors of the contract."""
        wait_s = wait_preference(headers.get("prefer", ""))
        batch_id = uuid.uuid4().hex
        with self._budget.share() as share:
            body = await read_body(
                receive, headers, hold=share.grow, timeout_s=self._settings.ingest_read_timeout_s
            )
            batch = read_batch(body, key, utc_now())
            size = len(body)
            del body  # the records are all that has to live until the broker has them
            verdicts = await self._hand_over(batch_id, batch, wait_s)
        self._accepted.inc(len(batch.records))
        self._rejected.inc(len(batch.rejected))
        _log.info(
            "batch_accepted",
            batch_id=batch_id,
            org_id=key.org_id,
            bytes=size,
            accepted=len(batch.records),
            rejected=len(batch.rejected),
            stored=verdicts is not None,
        )
        answer = BatchAnswer(batch_id, len(batch.records), batch.rejected)
        if verdicts is not None and wait_s:
            count = len(batch.records) + len(batch.rejected)
            answer.stored = True
            answer.verdicts = [verdicts.get(index, "rejected") for index in range(count)]
        return answer

    async def _hand_over(self, batch_id: str, batch: Batch, wait_s: int) -> dict[int, str] | None:
        """Return once the events are as safe as they must be: the verdicts when all are in, else None."""
        must_be_stored = self._settings.embedded
        if not batch.records:
            return {}
        if must_be_stored and not self._verdicts.listening:
            raise Unavailable("the broker does not answer", code="broker_unavailable")
        if not (must_be_stored or wait_s) or not self._verdicts.listening:
            await self._publish(batch.records)
            return None
        records = addressed(batch.records, batch.indices, reply_to=self._verdicts.reply_to, batch_id=batch_id)
        waiting = self._verdicts.expect(batch_id, batch.indices)
        try:
            await self._publish(records)
            with self._waiting.track_inprogress():
                verdicts = await waiting.all_in(
                    self._settings.ingest_store_timeout_s if must_be_stored else wait_s
                )
        finally:
            self._verdicts.forget(batch_id)
        if verdicts is None and must_be_stored:
            # The guarantee: a broker that keeps records in memory could lose what is not stored yet, so it
            # is not acknowledged. Sent again it counts once, however often it arrived.
            raise Unavailable(
                "not stored in time; send it again", code="not_stored", retry_after_s=_RETRY_WHEN_SLOW_S
            )
        return verdicts

    async def _publish(self, records: Sequence[Record]) -> None:
        started = time.perf_counter()
        try:
            # The guarantee: this returns when every in-sync replica has every record, or it raises.
            await self._publisher.publish(USAGE, records)
        except Unavailable:
            self._publish_failures.inc()
            raise
        self._publish_time.observe(time.perf_counter() - started)
