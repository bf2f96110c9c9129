"""One pass: rank the touched periods of an organisation anew, store them, announce them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from tokentide_common.broker import Publisher, Record
from tokentide_common.metrics import Metrics
from tokentide_common.store import Store
from tokentide_common.topics import RANKINGS
from tokentide_ranker.periods import Period, following, preceding
from tokentide_ranker.ranks import rank
from tokentide_ranker.records import Pass, published, stored
from tokentide_ranker.totals import Totals, no_totals, read_totals

_BLOCK_BYTES: Final = 1 << 20
_encode = msgspec.json.Encoder().encode


class Ranker:
    """Ranks periods. A ranking is a function of the rollups alone: doing it again changes nothing."""

    def __init__(
        self,
        store: Store,
        publisher: Publisher,
        metrics: Metrics,
        *,
        published_entries: int,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._metrics = metrics
        self._published_entries = published_entries
        self._now = now

    async def rank(
        self, org_id: str, zone: ZoneInfo, periods: Collection[Period], *, fence: int, sequence: int
    ) -> None:
        """Rank the given periods, and the ones after them, whose movement depends on them.

        Returns once all is stored and published. Raises `Unavailable`; some periods may be stored then, each
        ranking of them whole.
        """
        run = Pass(org_id, zone.key, self._now(), fence, sequence)
        block = _Block([], [])
        known: dict[Period, Totals] = {}
        for period in with_followers(periods):
            with self._metrics.histogram(
                "tokentide_rank_recompute_duration_seconds", period=period.kind
            ).time():
                before = preceding(period)
                # In order of time the period before was mostly read a moment ago; only that one is kept.
                wanted = [period] if before is None else [before, period]
                known = {p: known.get(p) or await read_totals(self._store, org_id, p, zone) for p in wanted}
                if period in periods or any(known[period].values()):
                    await self._append(block, run, period, known)
            if sum(map(len, block.rows)) >= _BLOCK_BYTES:
                await self._write(block)
                block = _Block([], [])
        await self._write(block)

    async def _append(self, block: _Block, run: Pass, period: Period, known: dict[Period, Totals]) -> None:
        before = preceding(period)
        former = no_totals() if before is None else known[before]
        for key, values in known[period].items():
            ranking = rank(values, former[key])
            block.rows.append(_encode(stored(run, period, *key, ranking)))
            record = published(run, period, *key, ranking, entries=self._published_entries)
            block.records.append(Record(run.org_id.encode(), _encode(record)))
            await asyncio.sleep(0)  # others share the loop, and ten thousand entities take milliseconds
        self._metrics.counter("tokentide_rank_recomputed_total", period=period.kind).inc(len(former))

    async def _write(self, block: _Block) -> None:
        if not block.rows:
            return
        # Each row is a whole ranking under this ranker's fence: it replaces the former one in one step, and
        # never that of a ranker that took over meanwhile, however late this block arrives.
        await self._store.insert("rankings", b"\n".join(block.rows))
        await self._publisher.publish(RANKINGS, block.records)
        self._metrics.gauge("tokentide_rank_last_success_timestamp_seconds").set_to_current_time()


class _Block(NamedTuple):
    """Rankings that are stored by one insert, and what the topic is told of them then."""

    rows: list[bytes]
    records: list[Record]


def with_followers(periods: Collection[Period]) -> list[Period]:
    """Return the periods and the one after each, in order of kind and time."""
    followers = {after for period in periods if (after := following(period)) is not None}
    return sorted(followers.union(periods))
