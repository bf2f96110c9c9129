"""Activity facts, and what the tables of activity add up to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from infra.counting import Consumed, Counter
from tokentide_aggregator.activity_ledger import ActivityLedger
from tokentide_aggregator.activity_links import ActivityLinks
from tokentide_aggregator.failpoints import Failpoint
from tokentide_aggregator.filter import CountedCalls
from tokentide_aggregator.links import Links
from tokentide_aggregator.processing import Processor
from tokentide_aggregator.recent import RecentRows
from tokentide_common.activity import ActivityFact, encode_fact
from tokentide_common.broker import Publisher
from tokentide_common.metrics import Metrics
from tokentide_common.store import Store, rows

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
TABLES = ("activity", "activity_15m", "activity_session")


def fact(series_id: str = "s", value: str = "1", minutes: float = 0, **fields: object) -> ActivityFact:
    """Return a fact, `minutes` after noon."""
    return ActivityFact(
        **{
            "series_id": series_id,
            "org_id": "o",
            "metric": "lines_of_code",
            "source": "otlp",
            "at": NOON + timedelta(minutes=minutes),
            "value": value,
            **fields,
        }
    )


class FactCounter(Counter):
    """One partition's worth of counting activity."""

    def restart(self, failpoint: Failpoint = lambda _point: None, **_options: Any) -> None:
        """Be a new process: nothing but what the databases hold survives."""
        ledger = ActivityLedger(topic=self._topic)
        self._counted = CountedCalls(self._store, ledger.index)
        self._recent = RecentRows(1 << 14)  # so few that some are forgotten
        self.links = ActivityLinks(Links(self._store))
        self._processor = Processor(
            ledger=ledger,
            store=self._store,
            engine=self._engine,
            publisher=Publisher("kafka://127.0.0.1:1"),
            counted=self._counted,
            metrics=Metrics(),
            failpoint=failpoint,
            links=self.links,
        )

    def append(self, facts: Iterable[ActivityFact]) -> None:
        """Put facts on the partition's log."""
        for one in facts:
            offset = len(self.log)
            at = 1_795_000_000_000 + offset
            self.log.append(Consumed(offset, at, one.series_id.encode(), encode_fact(one)))


def highest(facts: Iterable[ActivityFact]) -> dict[str, Decimal]:
    """Return what must be counted per metric: the highest value of each series, added up."""
    series: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for one in facts:
        key = (one.metric, one.series_id)
        series[key] = max(series[key], Decimal(one.value))
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for (metric, _), value in series.items():
        sums[metric] += value
    return {metric: value for metric, value in sums.items() if value}


def rises(facts: Iterable[ActivityFact], org_id: str = "o") -> dict[tuple[str, str], Decimal]:
    """Return what each metric rose by in each quarter of an hour, worked out the long way."""
    by_series: dict[tuple[str, str], list[ActivityFact]] = defaultdict(list)
    for one in facts:
        if one.org_id == org_id:
            by_series[one.metric, one.series_id].append(one)
    said: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for (metric, _), points in by_series.items():
        before = Decimal(0)
        for start in sorted({_quarter(p.at) for p in points}):
            now = max(Decimal(p.value) for p in points if _quarter(p.at) <= start)
            said[metric, start.strftime("%H:%M")] += now - before
            before = now
    return {key: value for key, value in said.items() if value}


def _quarter(at: datetime) -> datetime:
    return at.replace(minute=at.minute // 15 * 15, second=0, microsecond=0)


async def sums(store: Store, org_id: str = "o") -> dict[str, dict[str, Decimal]]:
    """Return what each table says of each metric of an organisation."""
    questions = []
    for table in TABLES:
        value = "sum(sign * value)" if table == "activity" else "sum(value)"
        sums_of = f"SELECT '{table}' AS place, metric, toString({value}) AS total FROM {table}"
        questions.append(f"{sums_of} WHERE org_id = {{org:String}} GROUP BY metric HAVING {value} != 0")
    said: dict[str, dict[str, Decimal]] = {table: {} for table in TABLES}
    for row in await rows(store, " UNION ALL ".join(questions), {"org": org_id}):
        said[row["place"]][row["metric"]] = Decimal(row["total"])
    return said


async def by_quarter(store: Store, org_id: str = "o") -> dict[tuple[str, str], Decimal]:
    """Return what the rollup says of each metric and quarter."""
    sql = (
        "SELECT metric, formatDateTime(bucket, '%H:%i', 'UTC') AS start, sum(value) AS total"
        " FROM activity_15m WHERE org_id = {org:String} GROUP BY metric, start HAVING total != 0"
    )
    found = await rows(store, sql, {"org": org_id})
    return {(row["metric"], row["start"]): Decimal(row["total"]) for row in found}
