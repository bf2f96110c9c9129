"""What the service reads from and writes to the broker, as an AsyncAPI document."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from faststream.kafka import KafkaBroker
from faststream.specification import AsyncAPI

from tokentide_common.events import UsageEvent
from tokentide_common.topics import TOPICS, USAGE, Verdicts
from tokentide_ingest.verdicts import subscribe

_PAYLOADS: Final = {"usage:Message": UsageEvent, "verdicts:SubscribeMessage": Verdicts}


def document() -> dict[str, Any]:
    """Return the AsyncAPI 3 document, which docs/reference/asyncapi-ingest.json repeats."""
    broker = KafkaBroker("broker:9092", apply_types=False)
    subscribe(broker, _ignore)
    carries = {topic.name: topic.carries for topic in TOPICS}
    broker.publisher(USAGE, title="usage", description=carries[USAGE])
    specification = AsyncAPI(broker, title="Tokentide ingest", version="1").to_specification()
    described: dict[str, Any] = msgspec.json.decode(specification.to_json())
    # FastStream describes payloads through Pydantic; ours are msgspec's, which describes them itself.
    schemas, parts = msgspec.json.schema_components(
        _PAYLOADS.values(), ref_template="#/components/schemas/{name}"
    )
    components = described["components"]
    components["schemas"] = parts
    for message, schema in zip(_PAYLOADS, schemas, strict=True):
        components["messages"][message]["payload"] = schema
    return described


async def _ignore(_value: bytes) -> None:
    """Stands for the handler: a document reads nothing."""
