"""The AsyncAPI document of the ranker's channels, as `docs/reference/asyncapi-ranker.json` holds it."""

from __future__ import annotations

from tokentide_common.asyncapi import asyncapi_document
from tokentide_common.topics import PeriodsTouched
from tokentide_ranker.announcements import Touched, build_broker, describe_rankings, subscribe
from tokentide_ranker.records import RankingPublished


def document() -> bytes:
    """Return the document as formatted JSON; it does not depend on settings or on a broker."""
    broker = build_broker("kafka://broker:9092")
    subscriber = subscribe(broker, _described_only)
    describe_rankings(broker)
    described = asyncapi_document(
        broker, "Tokentide ranker", {"periods": PeriodsTouched, "rankings": RankingPublished}
    )
    del subscriber  # the broker holds it weakly: it had to live until here
    return described


async def _described_only(_touched: Touched) -> bool:
    return False
