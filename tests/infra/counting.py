"""The aggregator's steps without a broker: batches in, and what the store then says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

from infra.sqlite import migrated_sqlite
from tokentide_aggregator.call_ledger import CallLedger
from tokentide_aggregator.failpoints import Failpoint
from tokentide_aggregator.filter import CountedCalls
from tokentide_aggregator.known import IsGone
from tokentide_aggregator.links import Links
from tokentide_aggregator.processing import MoreNeeded, Outcome, Processor
from tokentide_aggregator.recent import RecentRows
from tokentide_common.broker import Publisher
from tokentide_common.database import open_database
from tokentide_common.events import UsageEvent, encode_event
from tokentide_common.merge import add, merged, nano_usd
from tokentide_common.metrics import Metrics
from tokentide_common.pricing import Prices
from tokentide_common.pricing.call_price import Price, price_of
from tokentide_common.store import Store, rows

ROLLUPS = (
    *("usage_15m", "usage_15m_model", "usage_day_model", "usage_session", "usage_day"),
    *("usage_day_person", "usage_day_machine", "usage_day_project", "usage_day_price", "usage_minute_model"),
    *("usage_day_minutes", "usage_session_hour"),
    *("usage_month_digest", "usage_hour_digest", "usage_hour_person"),
)
SUMS = (
    *(
        "calls",
        "errors",
        "input_tokens",
        "cache_read_tokens",
        "cache_write_5m_tokens",
        "cache_write_1h_tokens",
    ),
    *("output_tokens", "reasoning_tokens", "web_search_requests", "cost_nano", "reported_cost_nano"),
    "unpriced_calls",
)
_CACHED = ("d.cache_read_tokens", "d.cache_write_5m_tokens", "d.cache_write_1h_tokens")


Headers = tuple[tuple[str, bytes], ...]


class Consumed(NamedTuple):
    """A record as the broker hands it out."""

    offset: int
    timestamp: int
    key: bytes
    value: bytes
    headers: Headers = ()


class Counter:
    """One partition's worth of counting."""

    def __init__(self, store: Store, folder: Path, topic: str) -> None:
        self._store, self._topic = store, topic
        self._engine = open_database(migrated_sqlite(folder / "claims.db"))
        self.log: list[Consumed] = []
        self.committed = 0
        self.restart()

    def restart(
        self,
        failpoint: Failpoint = lambda _point: None,
        *,
        price: Price | None = None,
        publisher: Any = None,
        is_gone: IsGone = lambda _org_id, _ms, _at_ms: False,
    ) -> None:
        """Be a new process: nothing but what the databases hold survives."""
        self._counted = CountedCalls(self._store, CallLedger.index)
        self._recent = RecentRows(1 << 20)
        self.links = Links(self._store)
        prices = Prices.load()
        self.price = price or price_of(prices)
        version = prices.version if price is None else "other"
        self._processor = Processor(
            ledger=CallLedger(self.price, version, topic=self._topic, is_gone=is_gone),
            store=self._store,
            engine=self._engine,
            publisher=publisher or Publisher("kafka://127.0.0.1:1"),
            counted=self._counted,
            metrics=Metrics(),
            failpoint=failpoint,
            links=self.links,
        )

    async def with_filter(self) -> None:
        """Build the filter of counted calls; without it every call is looked up."""
        await self._counted.rebuild({0})

    async def finish_kept(self) -> None:
        """Complete what a crash left behind, as an aggregator does whose broker forgets."""
        await self._processor.finish_kept()

    def close(self) -> None:
        self._engine.dispose()

    def append(self, events: Iterable[UsageEvent], headers: Headers = ()) -> None:
        """Put events on the partition's log."""
        for event in events:
            offset = len(self.log)
            at, key = 1_795_000_000_000 + offset, event.call_id.encode()
            self.log.append(Consumed(offset, at, key, encode_event(event), headers))

    async def count(self, size: int, *, commit: bool = True, keep: bool = False) -> Outcome:
        """Count the next batch of at most `size` records; without `commit` it will be repeated."""
        batch: Sequence[Consumed] = self.log[self.committed : self.committed + size]
        try:
            known = await self._processor.fold(0, batch)
        except MoreNeeded as claimed:
            known = await self._processor.fold(0, self.log[self.committed : claimed.end])
        outcome = await self._processor.store(0, known, self._recent, lambda: None, keep=keep)
        if commit:
            self.committed = outcome.end
        return outcome

    async def count_all(self, size: int) -> None:
        while self.committed < len(self.log):
            await self.count(size)


def expected_sums(events: Iterable[UsageEvent], price: Any) -> dict[str, int]:
    """Return what every rollup must sum to, from the events alone, by the merge and nothing else."""
    states: dict[str, Any] = defaultdict(dict)
    for event in events:
        states[event.call_id] = add(states[event.call_id], event)
    return sums_of((merged(state)[0] for state in states.values()), price)


def sums_of(records: Iterable[UsageEvent], price: Any) -> dict[str, int]:
    """Return what every rollup must sum to over calls with these records."""
    return reduce(_added, (_sums(record, price) for record in records), dict.fromkeys(SUMS, 0))


def _sums(record: UsageEvent, price: Any) -> dict[str, int]:
    if record.same_as:  # counted under another id, or only concluded and not seen yet
        return dict.fromkeys(SUMS, 0)
    cost = price(record)
    own = {name: getattr(record, name) for name in SUMS if hasattr(record, name)}
    return own | {
        "calls": 1,
        "errors": int(record.status != "ok"),
        "cost_nano": cost or 0,
        "unpriced_calls": int(cost is None),
        "reported_cost_nano": nano_usd(record.reported_cost_usd),
    }


def _added(left: dict[str, int], right: dict[str, int]) -> dict[str, int]:
    return {name: left[name] + right[name] for name in SUMS}


async def rollup_sums(store: Store, org_id: str) -> dict[str, dict[str, int]]:
    """Return what each rollup, and the signed ledger, sums to for an organisation."""
    columns = ", ".join(f"sum({name}) AS {name}" for name in SUMS)
    in_org = "WHERE org_id = {org:String}"
    # They count calls and all tokens, or calls alone: the other sums are those of days.
    lists = "SELECT sum(arraySum(minutesMap.calls)) AS n, sum(arraySum(minutesMap.tokens)) AS k"
    minutes = f"({lists} FROM usage_day_minutes {in_org})"
    told = {
        "usage_day_minutes": {
            "calls": f"{minutes}.1",
            "output_tokens": f"{minutes}.2 - sum(d.input_tokens + {' + '.join(_CACHED)})",
        },
    }
    digests = {"usage_month_digest": "arraySum(daysMap.calls)", "usage_hour_digest": "calls"}
    for table, calls in digests.items():  # each call three times
        told[table] = {"calls": f"(SELECT sumIf({calls}, what = 1) FROM {table} {in_org})"}
    alike = [table for table in ROLLUPS if table not in told]
    questions = [f"SELECT '{table}' AS place, {columns} FROM {table} {in_org}" for table in alike]
    for table, own in told.items():
        named = ", ".join(f"{own.get(name, f'sum(d.{name})')} AS {name}" for name in SUMS)
        questions.append(f"SELECT '{table}' AS place, {named} FROM usage_day AS d {in_org}")
    signed = {name: f"sum(l.sign * l.{name})" for name in SUMS}
    signed |= {
        "calls": "sum(l.sign)",
        "errors": "sum(l.sign * (l.status != 'ok'))",
        "unpriced_calls": "sum(l.sign * l.unpriced)",
    }
    columns = ", ".join(f"{expression} AS {name}" for name, expression in signed.items())
    questions.append(f"SELECT 'ledger' AS place, {columns} FROM ledger AS l {in_org} AND l.same_as = ''")
    # One question instead of twelve: it is asked after every step of many tests.
    found = await rows(store, " UNION ALL ".join(questions), {"org": org_id})
    return {row.pop("place"): row for row in found}


async def live_rows(store: Store, org_id: str) -> list[dict[str, Any]]:
    """Return the current row of every call, ordered, without what the organisation and the version are in."""
    sql = """
    SELECT * EXCEPT (sign, org_id, version, digest) FROM ledger WHERE org_id = {org:String} AND sign = 1
    AND (call_id, version) IN (
      SELECT call_id, version FROM ledger WHERE org_id = {org:String}
      GROUP BY call_id, version HAVING sum(sign) = 1
    ) ORDER BY call_id
    """
    return await rows(store, sql, {"org": org_id})
