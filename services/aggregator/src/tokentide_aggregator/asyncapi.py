"""The AsyncAPI document of the aggregator's channels: `docs/reference/asyncapi-aggregator.json`."""

from __future__ import annotations

from faststream.kafka import KafkaBroker

from tokentide_aggregator.rows import LedgerRow
from tokentide_common.activity import ActivityFact
from tokentide_common.asyncapi import asyncapi_document, describe_publishers
from tokentide_common.events import UsageEvent
from tokentide_common.limit_facts import LimitFact
from tokentide_common.topics import (
    ACTIVITY,
    COUNTED,
    LIMITS,
    PERIODS,
    USAGE,
    VERDICTS,
    PeriodsTouched,
    Verdicts,
)


def document() -> bytes:
    """Return the document; it depends neither on settings nor on a broker."""
    broker = KafkaBroker("broker:9092", apply_types=False)
    # The hot loops read these topics with the driver's own batches; to the outside they are subscribers.
    subscribers = [
        broker.subscriber(
            USAGE,
            group_id="tokentide-aggregator",
            title="usage",
            description="usage events, keyed by call id",
        )(_described_only),
        broker.subscriber(
            ACTIVITY,
            group_id="tokentide-aggregator-activity",
            title="activity",
            description="activity facts, keyed by series id",
        )(_described_only),
        broker.subscriber(
            LIMITS,
            group_id="tokentide-aggregator-limits",
            title="limits",
            description="what providers say of their limits, keyed by account",
        )(_described_only),
    ]
    describe_publishers(broker, {VERDICTS: "verdicts", PERIODS: "periods", COUNTED: "counted"})
    payloads = {
        "usage": UsageEvent,
        "activity": ActivityFact,
        "limits": LimitFact,
        "verdicts": Verdicts,
        "periods": PeriodsTouched,
        "counted": LedgerRow,
    }
    described = asyncapi_document(broker, "Tokentide aggregator", payloads)
    del subscribers  # the broker holds them weakly: they had to live until here
    return described


async def _described_only(_value: bytes) -> None:
    """Stands for the hot loop: a document reads nothing."""
