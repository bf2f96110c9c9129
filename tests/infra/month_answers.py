"""The month stored and asked: every report of two organisations, in zones whose clocks change in it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from infra.activity_rows import insert_activity
from infra.counting import live_rows
from infra.linked import Linked
from infra.month_people import NOW, Row
from infra.month_reports import midnight
from infra.month_story import Month, activity_of
from infra.query_client import Caller, query_api
from tokentide_common.migrate import migrate
from tokentide_common.store import Store
from tokentide_query_api.reports.catalogue import REPORTS

FIRST, LAST = date(2026, 10, 4), date(2026, 11, 3)
"""Local days, both included: nearly all of the month, cut at midnights of each zone."""
AFTER = LAST + timedelta(days=1)
VIEWS = (("org_a", "America/New_York"), ("org_a", "Australia/Lord_Howe"), ("org_b", "Asia/Kathmandu"))
RAGGED = datetime(2026, 10, 9, 10, 7, 30, 250_000, tzinfo=UTC), datetime(2026, 10, 31, 22, 41, 3, tzinfo=UTC)
QUOTAS = {"day_usd": Decimal("0.5"), "week_tokens": Decimal(900_000), "month_usd": Decimal(20)}
PLANS = (
    {"user": "ann", "plan": "max5x", "provider": "anthropic", "usd": 100, "from": date(2026, 10, 10),
     "until": date(2026, 11, 2)},
    {"user": "bob@acme.example", "plan": "pro", "provider": "anthropic", "usd": 20, "from": date(2026, 9, 1),
     "until": date(2027, 1, 1)},
)  # fmt: skip
DONE = activity_of(seed=3)
WEEK = {"from": "2026-10-26", "to": "2026-11-01"}
TOP_FEW = 3
TABLES = ("csv", "ndjson", "parquet")
BUCKETS = ("hour", "day", "week", "month")


class Told(NamedTuple):
    """What one organisation was answered in one zone, and its calls."""

    answers: dict[str, Any]
    org_id: str
    zone: ZoneInfo
    every: list[Row]

    def rows(self, name: str) -> list[dict[str, Any]]:
        return self.answers[name]["rows"]

    def calls(self, first: date | datetime = FIRST, after: date | datetime = AFTER) -> list[Row]:
        start, end = (at if isinstance(at, datetime) else midnight(at, self.zone) for at in (first, after))
        return [call for call in self.every if start <= call["occurred_at"] < end]


class Truth(NamedTuple):
    """The month as it happened, as it is on record, and as it was told."""

    month: Month
    recorded: dict[str, list[dict[str, Any]]]
    told: dict[tuple[str, str], Told]
    formats: dict[str, Any]
    """The list of reports, and each of them as a table."""


async def everything(url: str, folder: Path, month: Month) -> Truth:
    store = Store(url)
    await migrate(store)
    counting = Linked(store, folder, "month")
    counting.append(month.events)
    for counter in counting.counters:
        await counter.with_filter()
    await counting.count_all(1000)
    counting.close()
    await insert_activity(store, DONE)
    recorded = {org: await live_rows(store, org) for org in ("org_a", "org_b")}
    told = {}
    async with query_api(store, folder, now=NOW) as api:
        for plan in PLANS:
            body = {"user": plan["user"], "plan": plan["plan"], "valid_from": plan["from"].isoformat(),
                    "valid_until": plan["until"].isoformat()}  # fmt: skip
            assert (await api.ask("POST", "/plans", "admin", body=body)).status_code == 201
        for org, zone in VIEWS:
            every = [row for row in month.rows if row["org_id"] == org]
            answers = {name: await _answer(api, org, path) for name, path in questions(zone).items()}
            told[org, zone] = Told(answers, org, ZoneInfo(zone), every)
        formats: dict[str, Any] = {"": await api.json("/reports")}
        for report in REPORTS:
            path = questions(VIEWS[0][1])[report.name]
            for fmt in TABLES:
                answer = await api.get(f"{path}&format={fmt}")
                assert answer.status_code == 200, answer.text
                formats[f"{report.name} {fmt}"] = answer.content
    await store.close()
    return Truth(month, recorded, told, formats)


async def _answer(api: Caller, org: str, path: str) -> Any:
    answer = await api.json(path, org)
    while cursor := answer.get("next_cursor"):
        following = await api.json(f"{path}&{urlencode({'cursor': cursor})}", org)
        answer = {"items": answer["items"] + following["items"], "next_cursor": following["next_cursor"]}
    return answer


def questions(zone: str) -> dict[str, str]:
    """Name → path of everything that is asked in a zone."""
    whole = {"from": FIRST.isoformat(), "to": LAST.isoformat(), "tz": zone}
    ragged = {"from": RAGGED[0].isoformat(), "to": RAGGED[1].isoformat(), "tz": zone}

    def path(route: str, **more: Any) -> str:
        return f"{route}?{urlencode({**whole, **more})}"

    reports = {
        "top-users": {"metric": "tokens"}, "quota": QUOTAS, "rates": {"by": "user_model", "limit": 500},
        "peaks": {"tokens_per_minute": 1_000_000, "limit": 40}, "sessions": {"limit": 500},
        "cache": {"limit": 500}, "cache-losses": {"limit": 500}, "anomalies": {"threshold": 2, "limit": 500},
        "pace": {"from": "32d", "to": ""}, "efficiency": {"by": "user_id", "limit": 500},
    }  # fmt: skip
    asked = {r.name: path(f"/reports/{r.name}", **reports.get(r.name, {})) for r in REPORTS}
    asked |= {f"rates-{name}": path("/reports/rates", by=name) for name in ("user", "model", "all")}
    asked |= {
        f"top-users-{metric}": path("/reports/top-users", metric=metric) for metric in ("cost", "calls")
    }
    asked["top-users-few"] = path("/reports/top-users", limit=TOP_FEW - 1)
    asked |= {bucket: path("/usage/timeseries", bucket=bucket) for bucket in BUCKETS}
    asked |= {f"{bucket}-by": path("/usage/timeseries", bucket=bucket, group_by="model,team")
              for bucket in ("day", "month")}  # fmt: skip
    asked |= {
        "summary": path("/usage/summary"),
        "summary-ragged": path("/usage/summary", **ragged),
        "month-to-date": f"/usage/summary?from=month&tz={zone}",
        "breakdown": path("/usage/breakdown", by="user_id,model", limit=TOP_FEW),
        "breakdown-ragged": path("/usage/breakdown", by="project,git_branch", metric="tokens", **ragged),
        "session-list": path("/sessions", limit=200),
        "blocks": path("/blocks", limit=50),
        "compare": path("/compare", by="user_id,model", limit=500, **WEEK),
    }
    return asked
