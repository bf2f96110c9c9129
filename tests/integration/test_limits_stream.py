"""Facts about limits from the topic into the table: bad ones set aside, nothing lost, replays harmless."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from infra.waiting import until
from tokentide_aggregator.limits import LimitsConsumer
from tokentide_aggregator.settings import AggregatorSettings
from tokentide_common.broker import Publisher, Record, ensure_topics
from tokentide_common.limit_facts import LimitFact, encode_limit_fact, key_of, of_sortable
from tokentide_common.metrics import Metrics
from tokentide_common.store import rows
from tokentide_common.topics import LIMITS

AT = datetime(2026, 11, 22, 11, tzinfo=UTC)
KEPT = "SELECT max(latest) AS fact FROM limits GROUP BY org_id, provider, account, model, kind"


def told(remaining: int, kind: str = "requests") -> Record:
    fact = LimitFact(
        provider="openai",
        kind=kind,
        org_id="org_1",
        key_id="key_1",
        limit=100,
        remaining=remaining,
        observed_at=AT - timedelta(seconds=remaining),
    )
    return Record(key_of(fact), encode_limit_fact(fact))


async def test_the_newest_fact_of_each_limit_is_kept_and_a_replay_changes_nothing(tansu, store):
    await ensure_topics(tansu.url, embedded=True)
    publisher = Publisher(tansu.url)
    settings = AggregatorSettings(broker_url=tansu.url, session_timeout_ms=3000)

    async def kept() -> set[tuple[str, int | None]]:
        found = [of_sortable(row["fact"]) for row in await rows(store, KEPT)]
        return {(fact.kind, fact.remaining) for fact in found}

    async def there() -> bool:
        return await kept() == {("requests", 40), ("tokens", 7)}

    await publisher.publish(
        LIMITS, [told(90), told(40), Record(b"k", b"not a fact"), told(60), told(7, "tokens")]
    )
    for group in ("first", "again"):  # another group reads everything once more
        metrics = Metrics()
        consumer = LimitsConsumer(settings, group, store, publisher, metrics)
        running = asyncio.create_task(consumer.run())
        await until(
            lambda m=metrics: 'outcome="rejected",topic="tokentide.limits"} 1.0' in m.render().decode()
        )
        await until(there)
        consumer.stop()
        async with asyncio.timeout(15):
            await running
    await publisher.stop()
