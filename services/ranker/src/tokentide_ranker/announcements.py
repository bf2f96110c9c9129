"""The ranker's channels in FastStream: announcements of touched days in, rankings out."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from datetime import date
from typing import Any, Final, TypeAlias

import msgspec
import structlog
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, TopicPartition
from faststream.kafka.annotations import KafkaMessage
from faststream.kafka.subscriber.usecase import BatchSubscriber

from tokentide_common.broker import bootstrap_servers
from tokentide_common.topics import PERIODS, RANKINGS, TOPICS, PeriodsTouched

GROUP: Final = "tokentide-ranker"
Touched: TypeAlias = dict[str, set[date]]
"""UTC days by organisation."""
Handle: TypeAlias = Callable[[Touched], Awaitable[bool]]
"""Ranks what was touched; True: all of it is stored, and this ranker was still the active one after that."""

_MAX_RECORDS: Final = 10_000
_FIRST: Final = date(1970, 1, 1)
_LAST: Final = date(2148, 1, 1)
_log = structlog.get_logger(__name__)


def build_broker(url: str, *, drain_s: float = 10.0) -> KafkaBroker:
    """Return a broker that connects nothing by itself: its subscriber runs during a lease only."""
    return KafkaBroker(
        bootstrap_servers(url),
        consumer_only=True,  # what is published goes through the broker boundary, with its deadlines
        graceful_timeout=drain_s,
        logger=logging.getLogger("faststream"),
    )


def subscribe(broker: KafkaBroker, handle: Handle) -> BatchSubscriber:
    """Return a subscriber of the announcements, not yet started.

    Its partitions are assigned, not balanced by the group: the lease alone says who is active, and a
    successor need not wait until the broker gives up on its predecessor. The group only keeps the offsets.
    """
    partitions = next(topic.partitions for topic in TOPICS if topic.name == PERIODS)
    subscriber = broker.subscriber(
        partitions=[TopicPartition(PERIODS, number) for number in range(partitions)],
        group_id=GROUP,
        batch=True,
        max_records=_MAX_RECORDS,
        batch_timeout_ms=100,
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.MANUAL,
        decoder=_decoded,
        no_reply=True,
        persistent=False,
        title="periods",
        description="UTC days of an organisation whose numbers changed.",
    )

    @subscriber
    async def announced(body: list[Any], message: KafkaMessage) -> None:
        if await handle(folded(body)):
            # At least once: the offset moves only after every ranking that these announcements ask for is
            # stored under a fence that was the highest at a moment after the write. Whoever is active later
            # has read the same calls or gets the announcements again; ranking twice changes nothing.
            await message.ack()

    return subscriber


def describe_rankings(broker: KafkaBroker) -> None:
    """Declare the rankings that go out, for the AsyncAPI document."""
    broker.publisher(
        RANKINGS,
        title="rankings",
        description="A ranking as it was computed anew, keyed by organisation: its best entries.",
    )


def folded(announcements: Iterable[PeriodsTouched]) -> Touched:
    """Return the days by organisation, each once."""
    days: Touched = {}
    for one in announcements:
        days.setdefault(one.org_id, set()).update(map(date.fromisoformat, one.days))
    return days


def readable(value: bytes | None) -> PeriodsTouched | None:
    """Return an announcement, or None where it is not one: it would never become one by waiting."""
    try:
        one = msgspec.json.decode(value or b"", type=PeriodsTouched)
        inside = all(_FIRST <= date.fromisoformat(day) < _LAST for day in one.days)
    except (msgspec.DecodeError, ValueError):
        return None
    return one if inside else None


async def _decoded(message: KafkaMessage) -> list[PeriodsTouched]:
    found = [readable(record.value) for record in message.raw_message]
    if None in found:
        _log.error("announcements_unreadable", count=found.count(None))
    return [one for one in found if one is not None]
