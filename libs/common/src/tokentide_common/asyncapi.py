"""AsyncAPI documents: FastStream draws the channels, msgspec describes what travels on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from faststream.kafka import KafkaBroker
from faststream.specification import AsyncAPI

from tokentide_common.topics import TOPICS


def asyncapi_document(broker: KafkaBroker, title: str, payloads: Mapping[str, type]) -> bytes:
    """Return the AsyncAPI 3 document of a broker's channels as formatted JSON.

    `payloads` says which struct travels on a channel, by the channel's title. FastStream would describe
    payloads through Pydantic; ours are msgspec's, which describes them itself.
    """
    specification = AsyncAPI(broker, title=title, version="1").to_specification()
    described: dict[str, Any] = msgspec.json.decode(specification.to_json())
    schemas, parts = msgspec.json.schema_components(
        payloads.values(), ref_template="#/components/schemas/{name}"
    )
    components = described["components"]
    components["schemas"] = parts
    for channel, schema in zip(payloads, schemas, strict=True):
        for message in described["channels"][channel]["messages"].values():
            components["messages"][message["$ref"].rpartition("/")[2]]["payload"] = schema
    # FastStream keeps publishers in a weak set: without an order of our own each run would have another.
    ordered = msgspec.json.encode(described, order="sorted")
    return msgspec.json.format(ordered, indent=2) + b"\n"


def describe_publishers(broker: KafkaBroker, titles: Mapping[str, str]) -> None:
    """Name the topics that a service publishes to, by topic → title, with what each carries."""
    carries = {topic.name: topic.carries for topic in TOPICS}
    for topic, title in titles.items():
        broker.publisher(topic, title=title, description=carries[topic])
