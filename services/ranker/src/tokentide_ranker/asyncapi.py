"""The AsyncAPI document of the ranker's channels, as `docs/reference/asyncapi-ranker.json` holds it."""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from tokentide_common.topics import PeriodsTouched
from tokentide_ranker.announcements import Touched, describe_rankings, subscribe
from tokentide_ranker.app import create_app
from tokentide_ranker.records import RankingPublished
from tokentide_ranker.settings import RankerSettings


def document() -> bytes:
    """Return the document as formatted JSON; it does not depend on settings or on a broker."""
    app = create_app(RankerSettings())
    subscriber = subscribe(app.service.broker, _described_only)
    describe_rankings(app.service.broker)
    described: dict[str, Any] = app.schema.to_specification().to_jsonable()
    del subscriber  # the broker holds it weakly: it had to live until here
    return msgspec.json.format(msgspec.json.encode(_with_payloads(described)), indent=2) + b"\n"


async def _described_only(_touched: Touched) -> bool:
    return False


def _with_payloads(described: dict[str, Any]) -> dict[str, Any]:
    """Put in the records' schemas: FastStream draws the channels, but the records are structs of msgspec."""
    types = {"periods": PeriodsTouched, "rankings": RankingPublished}
    payloads, schemas = msgspec.json.schema_components(
        types.values(), ref_template="#/components/schemas/{name}"
    )
    for channel, payload in zip(types, payloads, strict=True):
        for message in described["channels"][channel]["messages"].values():
            name = message["$ref"].rpartition("/")[2]
            described["components"]["messages"][name]["payload"] = payload
    described["components"]["schemas"] = schemas
    return described


if __name__ == "__main__":
    sys.stdout.buffer.write(document())
