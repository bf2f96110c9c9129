"""A term of the ranker that ends early lets go of what it has in hand."""

from __future__ import annotations

import asyncio
from datetime import date
from pathlib import Path

from infra.sqlite import migrated_sqlite
from tokentide_common.broker import Publisher
from tokentide_common.database import open_database, utc_now
from tokentide_common.metrics import Metrics
from tokentide_common.store import Store
from tokentide_ranker.announcements import build_broker
from tokentide_ranker.lease import Lease
from tokentide_ranker.ranker import Ranker
from tokentide_ranker.term import Parts, Term

AWAY = "127.0.0.1:1"


async def test_an_announcement_is_given_back_when_the_term_ends_before_it_has_caught_up(
    tmp_path: Path,
) -> None:
    engine = open_database(migrated_sqlite(tmp_path / "tokentide.db"))
    store, publisher = Store(f"clickhouse://{AWAY}/tokentide"), Publisher(f"kafka://{AWAY}")
    ranker = Ranker(store, publisher, Metrics(), published_entries=1, now=utc_now)
    lease = Lease(engine, ttl_s=1, now=utc_now)
    term = Term(Parts(build_broker(f"kafka://{AWAY}"), store, engine, ranker, lease, 0.0, utc_now), fence=1)
    handled = asyncio.create_task(term.handle({"org": {date(2026, 11, 22)}}))
    await asyncio.sleep(0)  # it runs until it waits for the catching up
    assert not handled.done()

    term.close()
    async with asyncio.timeout(5):
        assert await handled is False
    await store.close()
    engine.dispose()
