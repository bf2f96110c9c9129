"""Named reports against the same facts added up from plain calls, in any zone, upgrades included."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest

from infra import query_oracle as oracle
from infra.ledger_rows import Row, call, insert_calls
from infra.limit_rows import insert_limits
from infra.query_client import Caller, query_api
from tokentide_common.limit_facts import LimitFact
from tokentide_query_api.reports.catalogue import REPORTS

BEGIN, END = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 11, 20, 10, 7, 30, tzinfo=UTC)
PERIOD = (BEGIN, END)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
TOKENS_OF = {
    "input": "input_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write_5m": "cache_write_5m_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "output": "output_tokens",
    "web_search": "web_search_requests",
}
LIMITED = {r.name for r in REPORTS if any(p.name == "limit" for p in r.parameters)}
Filled = tuple[Caller, list[Row], ZoneInfo]


@pytest.fixture(params=sorted(oracle.ZONES))
async def filled(request, store, tmp_path):
    live = await oracle.fill(store, seed=len(request.param), zone=request.param)
    async with query_api(store, tmp_path) as api:
        yield api, oracle.within(live, "org_a", *PERIOD), ZoneInfo(request.param)


async def rows_of(api: Caller, name: str, zone: ZoneInfo, **more: Any) -> list[dict[str, Any]]:
    asked = {"from": BEGIN.isoformat(), "to": END.isoformat(), "tz": zone.key, **more}
    if name in LIMITED:
        asked.setdefault("limit", 500)
    answer = await api.json(f"/reports/{name}?{urlencode(asked)}")
    assert answer["report"] == name
    return answer["rows"]


def by(calls: list[Row], key: Callable[[Row], Hashable]) -> Mapping[Any, list[Row]]:
    return oracle.grouped(calls, key)


def cost(calls: list[Row]) -> Decimal:
    return oracle.measures(calls)["cost_usd"]


def tokens(calls: list[Row]) -> int:
    return oracle.measures(calls)["total_tokens"]


def usual_email(calls: list[Row]) -> str:
    known = Counter(c["user_email"] for c in calls if c["user_email"])
    return max(known, key=lambda email: (known[email], email), default="")


def keyed(rows: list[dict[str, Any]], *names: str) -> dict[Any, dict[str, Any]]:
    found = {tuple(row[name] for name in names): row for row in rows}
    assert len(found) == len(rows), "a group comes once"
    return found


def assert_measures(rows: Mapping[Any, dict[str, Any]], groups: Mapping[Any, list[Row]]) -> None:
    assert rows.keys() == groups.keys()
    for key, calls in groups.items():
        assert oracle.answered(rows[key]) == oracle.measures(calls), key


@pytest.mark.parametrize("metric", ["cost", "tokens", "calls"])
async def test_top_users_have_their_sums_sessions_and_local_days(filled: Filled, metric):
    api, calls, zone = filled
    rows = await rows_of(api, "top-users", zone, metric=metric)
    users = {(user,): found for user, found in by(calls, lambda c: c["user_id"]).items() if user}
    found = keyed(rows, "user_id")
    assert_measures(found, users)
    value = {"cost": cost, "tokens": tokens, "calls": len}[metric]
    assert [row["user_id"] for row in rows] == sorted(
        (user for (user,) in users), key=lambda user: (-value(users[user,]), user)
    )
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    for (user,), own in users.items():
        row = found[user,]
        assert row["user_email"] == usual_email(own)
        assert row["sessions"] == len({c["session_id"] for c in own} - {""})
        assert row["active_days"] == len({c["occurred_at"].astimezone(zone).date() for c in own})
        assert row["share"] == pytest.approx(float(value(own) / value(calls)), abs=1e-6)


async def test_top_users_are_as_many_as_asked_for(filled: Filled):
    api, _, zone = filled
    every = await rows_of(api, "top-users", zone)
    assert await rows_of(api, "top-users", zone, limit=2) == every[:2]


@pytest.mark.parametrize("detail", [False, True])
async def test_months_of_people_are_local_months(filled: Filled, detail):
    api, calls, zone = filled
    rows = await rows_of(api, "monthly-per-user" + "-detail" * detail, zone)

    def key(c: Row) -> tuple[str, ...]:
        month = c["occurred_at"].astimezone(zone).strftime("%Y-%m")
        return (month, c["user_id"], c["model"]) if detail else (month, c["user_id"])

    assert_measures(keyed(rows, "month", "user_id", *(["model"] * detail)), by(calls, key))
    assert [row["month"] for row in rows] == sorted(row["month"] for row in rows)


async def test_a_quota_is_judged_by_the_local_day_week_and_month(store, tmp_path):
    zone = ZoneInfo("America/New_York")
    now = datetime(2026, 11, 1, 22, 0, tzinfo=UTC)  # the Sunday on which the clocks go back
    ago = {"today": 2, "week": 30, "month_before": 48, "last_week": 24 * 7}
    made = {
        name: call(
            user_id="u", occurred_at=now - timedelta(hours=h), output_tokens=100, cost_nano=1_500_000_000
        )
        for name, h in ago.items()
    }
    await insert_calls(store, [*made.values(), call(user_id="", occurred_at=now, output_tokens=5)])
    async with query_api(store, tmp_path, now=now) as api:
        asked = {"from": "2026-10-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}
        limits = {"day_tokens": 100, "week_tokens": 150, "month_tokens": 1000, "week_usd": "3.2"}
        rows = await rows_of(api, "quota", zone, **asked, **limits)
        over = {"from": "2026-10-01T00:00:00Z", "to": "2026-10-26T04:00:00Z"}  # a Monday's midnight there
        past = await rows_of(api, "quota", zone, **over, **limits)
    found = keyed(rows, "window", "unit")
    assert {key: (row["used"], row["status"]) for key, row in found.items()} == {
        ("day", "tokens"): ("100", "near"),
        ("week", "tokens"): ("300", "over"),
        ("month", "tokens"): ("100", "within"),
        ("week", "usd"): ("4.5", "over"),
    }
    assert found["day", "tokens"]["since"] == "2026-11-01T00:00:00-04:00"
    assert found["week", "tokens"]["since"] == "2026-10-26T00:00:00-04:00"
    assert found["week", "tokens"]["remaining"] == "0"
    assert {row["user_id"] for row in rows} == {"u"}
    since = {row["window"]: (row["since"], row["used"]) for row in past if row["unit"] == "tokens"}
    assert since == {
        name: (f"{day}T00:00:00-04:00", "100")
        for name, day in (("day", "2026-10-25"), ("week", "2026-10-19"), ("month", "2026-10-01"))
    }


@pytest.mark.parametrize("amount", ["0", "-1", "x", "1e99", "nan", "0.0000000001"])
async def test_a_quota_that_is_no_amount_is_refused(store, tmp_path, amount):
    async with query_api(store, tmp_path) as api:
        answer = await api.get(f"/reports/quota?day_tokens={amount}")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "day_tokens"


@pytest.mark.parametrize(
    ("name", "dimension"),
    [
        ("by-team", "team"),
        ("by-department", "department"),
        ("by-cost-center", "cost_center"),
        ("by-identity-provider", "identity_provider"),
    ],
)
async def test_groups_have_their_sums_users_and_share(filled: Filled, name, dimension):
    api, calls, zone = filled
    rows = await rows_of(api, name, zone)
    groups = {(value,): own for value, own in by(calls, lambda c: c[dimension]).items()}
    found = keyed(rows, dimension)
    assert_measures(found, groups)
    for key, own in groups.items():
        assert found[key]["users"] == len({c["user_id"] for c in own} - {""})
        assert found[key]["cost_share"] == pytest.approx(float(cost(own) / cost(calls)), abs=1e-6)
    assert rows == sorted(rows, key=lambda row: -Decimal(row["cost_usd"]))


async def test_the_organisation_is_one_row(filled: Filled):
    api, calls, zone = filled
    (row,) = await rows_of(api, "by-organization", zone)
    assert row["organization"] == "org_a"
    assert row["users"] == len({c["user_id"] for c in calls} - {""})
    assert oracle.answered(row) == oracle.measures(calls)


async def test_domains_are_those_of_addresses_in_any_case(filled: Filled):
    api, calls, zone = filled
    rows = await rows_of(api, "by-email-domain", zone)
    domains = {
        "ann@example.com": "example.com",
        "Bob@Example.com": "example.com",
        "eve@other.org": "other.org",
    }
    groups = by(calls, lambda c: (domains.get(c["user_email"], ""),))
    assert_measures(keyed(rows, "email_domain"), groups)


async def test_the_pattern_has_each_hour_of_the_week_in_the_viewers_zone(filled: Filled):
    api, calls, zone = filled
    rows = await rows_of(api, "activity-pattern", zone)

    def cell(c: Row) -> tuple[str, int]:
        local = c["occurred_at"].astimezone(zone)
        return WEEKDAYS[local.weekday()], local.hour

    cells = by(calls, cell)
    assert_measures(
        keyed(rows, "weekday", "hour"), {(w, h): cells.get((w, h), []) for w in WEEKDAYS for h in range(24)}
    )


@pytest.mark.parametrize("group", ["user_model", "user", "model", "all"])
async def test_rates_are_of_minutes_that_have_calls(filled: Filled, group):
    api, calls, zone = filled
    rows = await rows_of(api, "rates", zone, by=group)
    names = {"user_model": ("user_id", "model"), "user": ("user_id",), "model": ("model",), "all": ()}[group]
    groups = by(calls, lambda c: tuple(c[n] for n in names))
    found = keyed(rows, *names)
    assert found.keys() == groups.keys()
    for key, own in groups.items():
        minutes = by(own, lambda c: c["occurred_at"].replace(second=0, microsecond=0)).values()
        row = found[key]
        assert row["active_minutes"] == len(minutes)
        for what, per_minute in (
            ("requests", sorted(len(m) for m in minutes)), ("tokens", sorted(tokens(m) for m in minutes))
        ):  # fmt: skip
            assert row[what] == sum(per_minute)
            assert row[f"{what}_per_minute"] == pytest.approx(sum(per_minute) / len(per_minute), abs=1e-3)
            assert row[f"{what}_per_minute_p95"] == per_minute[math.ceil(0.95 * len(per_minute)) - 1]
            assert row[f"{what}_per_minute_peak"] == per_minute[-1]


async def test_peaks_are_judged_by_limits_that_providers_told_or_the_caller_names(store, tmp_path):
    at = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
    busy = [call(model="m", occurred_at=at + timedelta(seconds=n), output_tokens=10) for n in range(9)]
    large = call(model="n", occurred_at=at + timedelta(minutes=5), output_tokens=900)
    await insert_calls(store, [*busy, large])
    one = {"provider": "p", "kind": "requests", "org_id": "org_a", "key_id": "k", "observed_at": at}
    told = [LimitFact(**one, model="m", limit=10), LimitFact(**one, limit=100)]
    claimed = LimitFact(**one | {"key_id": "other"}, model="m", limit=10_000, source="cli")
    await insert_limits(store, [*told, claimed])
    async with query_api(store, tmp_path) as api:
        observed = await rows_of(api, "peaks", ZoneInfo("UTC"))
        given = await rows_of(api, "peaks", ZoneInfo("UTC"), tokens_per_minute=1000)
    assert [(row["model"], row["requests"], row["tokens"]) for row in observed] == [
        ("m", 9, 90),
        ("n", 1, 900),
    ]
    assert [(r["requests_limit"], r["limit_source"], r["utilization"], r["risk"]) for r in observed] == [
        (10, "observed", 0.9, "high"), (100, "observed", 0.01, "low"),
    ]  # fmt: skip
    assert [(r["tokens_limit"], r["limit_source"], r["utilization"], r["risk"]) for r in given] == [
        (1000, "observed", 0.9, "high"), (1000, "configured", 0.9, "high"),
    ]  # fmt: skip


async def test_sessions_say_how_long_and_how_intense_they_were(filled: Filled):
    api, calls, zone = filled
    rows = await rows_of(api, "sessions", zone)
    groups = {(s,): own for s, own in by(calls, lambda c: c["session_id"]).items() if s}
    found = keyed(rows, "session_id")
    assert_measures(found, groups)
    for key, own in groups.items():
        times = [c["occurred_at"] for c in own]
        seconds = (max(times) - min(times)).total_seconds()
        assert found[key]["duration_s"] == pytest.approx(seconds)
        rate = found[key]["tokens_per_minute"]
        assert rate is None if not seconds else rate == pytest.approx(tokens(own) * 60 / seconds, abs=1e-3)


def assert_typed(rows: list[dict[str, Any]], calls: list[Row]) -> None:
    assert sum((Decimal(row["cost_usd"]) for row in rows), Decimal(0)) == cost(calls)
    for kind, name in TOKENS_OF.items():
        amounts = [row["amount"] for row in rows if row["token_type"] == kind]
        assert sum(amounts) == sum(c[name] for c in calls), kind


async def test_kinds_of_token_add_up_to_tokens_and_cost_of_each_model(filled: Filled):
    api, calls, zone = filled
    rows = await rows_of(api, "model-token-types", zone)
    models = by(calls, lambda c: c["model"])
    assert {row["model"] for row in rows} == models.keys()
    for model, own in models.items():
        mine = [row for row in rows if row["model"] == model]
        assert_typed(mine, own)
        assert {row["users"] for row in mine} == {len({c["user_id"] for c in own} - {""})}


async def test_cost_is_attributed_hour_by_hour_with_running_totals(filled: Filled):
    api, calls, zone = filled
    rows = await rows_of(api, "cost-attribution", zone)
    assert_typed(rows, calls)
    whole, users = Decimal(0), Counter[str]()
    for row in rows:
        whole += Decimal(row["cost_usd"])
        users[row["user_id"]] += Decimal(row["cost_usd"])  # type: ignore[assignment]  # a sum of money
        assert Decimal(row["running_cost_usd"]) == whole
        assert Decimal(row["user_running_cost_usd"]) == users[row["user_id"]]
    hours = by(
        calls,
        lambda c: (
            c["occurred_at"].astimezone(zone).replace(minute=0, second=0, microsecond=0),
            c["user_id"],
            c["model"],
        ),
    )
    if zone.key == "Europe/Berlin":  # where every local hour is a whole one
        told = {(datetime.fromisoformat(row["hour"]), row["user_id"], row["model"]) for row in rows}
        assert told == set(hours)


async def test_each_kind_of_token_has_its_own_price(store, tmp_path):
    """Claude Opus 4.5 at list: 5, 25, 0.50, 6.25 and 10 USD a million."""
    opus = call(
        provider="anthropic", model="claude-opus-4-5", user_id="u", occurred_at=BEGIN,
        input_tokens=1000, output_tokens=2000, cache_read_tokens=3000,
        cache_write_5m_tokens=4000, cache_write_1h_tokens=5000,
        cost_nano=131_500_000 + 7,
    )  # fmt: skip
    await insert_calls(store, [opus])
    async with query_api(store, tmp_path) as api:
        rows = await rows_of(api, "model-token-types", ZoneInfo("UTC"))
    assert {row["token_type"]: row["cost_usd"] for row in rows} == {
        "input": "0.005", "output": "0.05", "cache_read": "0.0015", "cache_write_5m": "0.025",
        "cache_write_1h": "0.05", "other": "0.000000007",
    }  # fmt: skip


async def test_every_report_is_listed_and_answers_in_every_format(filled: Filled):
    api, _, zone = filled
    listed = (await api.json("/reports"))["items"]
    assert [item["name"] for item in listed] == [r.name for r in REPORTS]
    for item in listed:
        answers = [
            await api.get(f"/reports/{item['name']}?from=7d&tz={zone.key}&format={fmt}")
            for fmt in ("json", "csv", "ndjson", "parquet")
        ]
        assert {answer.status_code for answer in answers} == {200}, item
        assert answers[1].text.splitlines()[0].split(",") == item["columns"]
