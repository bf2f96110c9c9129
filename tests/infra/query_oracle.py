"""What the query API must answer, added up from plain calls: no rollups, no SQL, no code of its buckets."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from infra.ledger_rows import Row, call, insert_calls, insert_rows, insert_seen, taken_back
from tokentide_common.store import Store

TOKENS = (
    "input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens",
)  # fmt: skip
SUMMED = (*TOKENS, "reasoning_tokens", "web_search_requests")
ZONES = {
    # zone → its days of change in 2026 (none for Kathmandu, whose offset is +05:45 all year)
    "Europe/Berlin": ("2026-03-29", "2026-10-25"),
    "America/New_York": ("2026-03-08", "2026-11-01"),
    "Australia/Lord_Howe": ("2026-04-05", "2026-10-04"),
    "Asia/Kathmandu": ("2026-06-15",),
}


def measures(calls: Iterable[Row]) -> dict[str, Any]:
    """Sum live calls, money in exact decimals."""
    calls = list(calls)
    sums = {name: sum(c.get(name, 0) for c in calls) for name in SUMMED}
    return {
        **sums,
        "calls": len(calls),
        "errors": sum(c["status"] != "ok" for c in calls),
        "total_tokens": sum(sums[name] for name in TOKENS),
        "cost_usd": sum((Decimal(c.get("cost_nano", 0)) for c in calls), Decimal(0)) / 10**9,
        "reported_cost_usd": sum((Decimal(c.get("reported_cost_nano", 0)) for c in calls), Decimal(0))
        / 10**9,
        "unpriced_calls": sum(bool(c.get("unpriced")) for c in calls),
    }


def answered(point: dict[str, Any]) -> dict[str, Any]:
    """Return the measures of an answer, money as decimals, without what stands beside them."""
    names = measures([])
    return {n: Decimal(point[n]) if n.endswith("_usd") else point[n] for n in names}


def within(calls: Iterable[Row], org: str, start: datetime, end: datetime, **filters: Any) -> list[Row]:
    """Return an organisation's calls of a period with these values; `not_x` excludes."""
    return [
        c
        for c in calls
        if c["org_id"] == org
        and start <= c["occurred_at"] < end
        and all(
            (value_of(c, name.removeprefix("not_")) in values) is not name.startswith("not_")
            for name, values in filters.items()
        )
    ]


def value_of(row: Row, dimension: str) -> Any:
    """Return a call's value of a dimension, as JSON has it."""
    if dimension.startswith("tag."):
        return row["tags"].get(dimension[4:], "")
    if dimension == "source":
        return row["token_source"]
    empty = {"http_status": 0, "is_sidechain": False, "unpriced": False}
    return row.get(dimension, empty.get(dimension, ""))


def grouped(calls: Iterable[Row], key: Callable[[Row], Hashable]) -> dict[Any, list[Row]]:
    """Group calls."""
    groups: dict[Any, list[Row]] = defaultdict(list)
    for one in calls:
        groups[key(one)].append(one)
    return groups


def bucket_label(instant: datetime, bucket: str, zone: ZoneInfo) -> Hashable:
    """Name the calendar bucket of an instant by what a wall calendar and clock show."""
    local = instant.astimezone(zone)
    if bucket == "15m":
        return math.floor(instant.timestamp() / 900)
    if bucket == "hour":
        return local.date(), local.hour, local.utcoffset()
    if bucket == "week":
        return local.isocalendar()[:2]
    return {"day": local.date(), "month": (local.year, local.month), "year": local.year}[bucket]


def quantile(values: Sequence[int], q: float) -> int | None:
    """Return the nearest-rank quantile."""
    ordered = sorted(v for v in values if v > 0)
    return ordered[math.ceil(q * len(ordered)) - 1] if ordered else None


def moment(rng: random.Random, zone: str) -> datetime:
    """Draw a time in 2026, mostly near a change of clocks, often exactly on a boundary."""
    day = datetime.fromisoformat(rng.choice(ZONES[zone])).replace(tzinfo=UTC)
    if rng.random() < 0.3:
        day = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=rng.randrange(320))
    at = day + timedelta(milliseconds=rng.randrange(-36 * 3_600_000, 60 * 3_600_000))
    return (
        at.replace(minute=rng.choice((0, 15, 30, 45)), second=0, microsecond=0) if rng.random() < 0.3 else at
    )


def drawn(rng: random.Random, zone: str, org: str) -> Row:
    """Draw a call: few values per dimension, so that groups meet, and empty ones among them."""
    pick = rng.choice
    return call(
        org_id=org,
        occurred_at=moment(rng, zone),
        user_id=pick(["", "u1", "u2", "u'3"]),
        machine_id=pick(["", "m1", "m2"]),
        session_id=pick(["", "s1", "s2", "s3", "s\\4"]),
        project=pick(["", "/p/one", "p,two"]),
        client=pick(["claude-code", "codex"]),
        provider=pick(["anthropic", "openai"]),
        model=pick(["claude-opus-5", "gpt-x", ""]),
        team=pick(["", "t1"]),
        agent=pick(["", "a1"]),
        git_branch=pick(["main", "dev"]),
        status=pick(["ok", "ok", "error", "aborted"]),
        http_status=pick([0, 200, 529]),
        is_sidechain=pick([True, False]),
        tags=pick([{}, {"env": "prod"}, {"env": "dev", "a b": "c"}]),
        sources=pick([["cli"], ["otlp"], ["cli", "otlp"]]),
        duration_ms=pick([0, 1, rng.randrange(1, 200_000)]),
        ttft_ms=pick([0, rng.randrange(1, 5_000)]),
        unpriced=pick([True, False]),
        cost_nano=rng.randrange(10**10),
        reported_cost_nano=rng.randrange(10**6),
        user_email=pick(["", "ann@example.com", "Bob@Example.com", "eve@other.org", "no address"]),
        department=pick(["", "d1"]),
        cost_center=pick(["", "cc1", "cc2"]),
        identity_provider=pick(["", "okta"]),
        **{name: rng.randrange(10_000) for name in SUMMED},
    )


async def fill(store: Store, seed: int, zone: str, size: int = 150) -> list[Row]:
    """Store random calls of two organisations, some upgraded once or twice, and return the live ones.

    One call is in both organisations under one id, and one has moved from one user and day to another.
    """
    rng = random.Random(seed)
    live = [drawn(rng, zone, rng.choice(["org_a", "org_b"])) for _ in range(size)]
    live.append({**drawn(rng, zone, "org_b"), "call_id": live[0]["call_id"], "org_id": _other(live[0])})
    await insert_calls(store, live)
    for _ in range(2):
        block: list[Row] = []
        for i in rng.sample(range(len(live)), size // 5):
            old = live[i]
            new = {
                **drawn(rng, zone, old["org_id"]),
                "call_id": old["call_id"],
                "version": old["version"] + 1,
            }
            new["occurred_at"] = min(old["occurred_at"], new["occurred_at"])
            live[i] = new
            block += [taken_back(old), new]
        await insert_rows(store, block)
        await insert_seen(store, [row for row in block if row["sign"] > 0])
    return live


def _other(row: Row) -> str:
    return "org_b" if row["org_id"] == "org_a" else "org_a"
