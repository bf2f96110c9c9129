"""The filter of counted calls in a running aggregator."""

from __future__ import annotations

from infra.aggregators import Traffic
from infra.counting import rollup_sums
from infra.observations import NOON
from infra.sqlite import migrated_sqlite
from infra.waiting import until
from tokentide_aggregator import filter as call_filter
from tokentide_aggregator.app import running
from tokentide_aggregator.settings import AggregatorSettings
from tokentide_common.database import open_database
from tokentide_common.events import UsageEvent
from tokentide_common.metrics import Metrics
from tokentide_common.settings import load
from tokentide_common.store import Store


async def test_a_full_filter_is_built_anew_even_if_that_takes_longer_than_a_turn(
    tansu, clickhouse_process, tmp_path, monkeypatch
):
    monkeypatch.setattr(call_filter, "_LEAST_CALLS", 20)
    url = clickhouse_process.database_url("filter")
    database = migrated_sqlite(tmp_path / "accounts.db")
    settings = load(
        AggregatorSettings,
        {
            "TOKENTIDE_BROKER_URL": tansu.url,
            "TOKENTIDE_CLICKHOUSE_URL": url,
            "TOKENTIDE_DATABASE_URL": database,
            "TOKENTIDE_BATCH_LINGER_MS": "20",
            "TOKENTIDE_EMBEDDED": "true",
        },
    )
    store, engine, traffic = Store(url), open_database(database), Traffic(tansu.url)
    try:
        async with running(settings, store=store, engine=engine, metrics=Metrics()) as (consumers, _):
            (consumer, *_) = consumers._members
            await until(consumers.ready, within_s=30, what="partitions owned")
            await traffic.start()
            clickhouse_process.fault(delay=0.6, containing="call_hash >=")
            events = [
                UsageEvent(call_id=f"req_{n}", source="cli", org_id="o", occurred_at=NOON) for n in range(60)
            ]
            await traffic.send(events)
            await until(lambda: consumer._counted.full, within_s=30, what="a full filter")
            await until(lambda: not consumer._counted.full, within_s=20, what="a new filter")
            clickhouse_process.fault()
            assert (await rollup_sums(store, "o"))["usage_15m"]["calls"] == 60
    finally:
        await traffic.stop()
        await store.close()
        engine.dispose()
