"""What the service reads from and writes to the broker, as an AsyncAPI document."""

from __future__ import annotations

from faststream.kafka import KafkaBroker

from tokentide_common.asyncapi import asyncapi_document, describe_publishers
from tokentide_common.events import UsageEvent
from tokentide_common.limit_facts import LimitFact
from tokentide_common.topics import LIMITS, USAGE, Verdicts
from tokentide_common.verdicts import subscribe


def document() -> bytes:
    """Return the AsyncAPI 3 document, which docs/reference/asyncapi-ingest.json repeats."""
    broker = KafkaBroker("broker:9092", apply_types=False)
    subscriber = subscribe(broker, _ignore)
    describe_publishers(broker, {USAGE: "usage", LIMITS: "limits"})
    payloads = {"usage": UsageEvent, "limits": LimitFact, "verdicts": Verdicts}
    described = asyncapi_document(broker, "Tokentide ingest", payloads)
    del subscriber  # the broker holds it weakly: it had to live until here
    return described


async def _ignore(_value: bytes) -> None:
    """Stands for the handler: a document reads nothing."""
