"""The truth of every report: a month through the real merge, beside the same month added up by hand.

`infra.month_story` draws what happened and what log, telemetry and proxy say of it, with forks, copies,
retries, repeats and lateness; `infra.month_reports` and `infra.month_money` read each answer off the calls.
Everything is asked once, in the zones in which clocks change in that month; the tests compare.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from infra import month_money, month_reports
from infra.month_answers import (
    AFTER,
    BUCKETS,
    DONE,
    FIRST,
    PLANS,
    QUOTAS,
    RAGGED,
    TABLES,
    TOP_FEW,
    VIEWS,
    Told,
    Truth,
    everything,
)
from infra.month_people import NOW, Row
from infra.month_reports import by, cost, measured, midnight, share
from infra.month_story import Month
from tokentide_common.store import connect
from tokentide_query_api.reports.catalogue import REPORTS


@pytest.fixture(scope="module")
def truth(chdb_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Truth]:
    folder, month = tmp_path_factory.mktemp("month"), Month(seed=7)
    yield asyncio.run(everything(f"chdb://{chdb_directory}?database=month", folder, month))
    client = connect(f"chdb://{chdb_directory}", 30)
    client.command("DROP DATABASE month")
    client.close()


@pytest.fixture(scope="module", params=VIEWS, ids=lambda view: f"{view[0]}-{view[1].rpartition('/')[2]}")
def told(request: pytest.FixtureRequest, truth: Truth) -> Told:
    return truth.told[request.param]


def nearly(value: Any) -> Any:
    return pytest.approx(value, rel=1e-9, abs=2e-9)


def test_the_record_of_every_call_is_what_the_best_of_its_witnesses_knows(truth: Truth):
    """Of all sources, in any order: each call once, with its people, its place, its tokens and its cost."""
    for org, found in truth.recorded.items():
        expected = {row["call_id"]: row for row in truth.month.rows if row["org_id"] == org}
        counted = {row["call_id"]: row for row in found if not row["same_as"]}
        assert counted.keys() == expected.keys()
        for call_id, row in expected.items():
            known = {name: _plain(counted[call_id][name]) for name in row if name != "org_id"}
            assert known == {name: row[name] for name in row if name != "org_id"}, call_id


def _plain(value: Any) -> Any:
    if isinstance(value, str) and value[:4] == "2026":
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    return value


def test_a_summary_is_the_sum_of_its_calls_and_counts_who_took_part(told: Told):
    now_local = NOW.astimezone(told.zone)
    month = midnight(now_local.date().replace(day=1), told.zone)
    for name, calls in (("summary", told.calls()), ("summary-ragged", told.calls(*RAGGED)),
                        ("month-to-date", told.calls(month, NOW))):  # fmt: skip
        found = told.answers[name]
        sums = measured(calls)
        sent = sum(sums[n] for n in month_reports.INPUTS)
        assert {n: found[n] for n in sums} == sums, name
        assert found["cache_hit_ratio"] == share(sums["cache_read_tokens"], sent)
        for field, column in (("users", "user_id"), ("sessions", "session_id"), ("machines", "machine_id"),
                              ("projects", "project")):  # fmt: skip
            assert found[field] == len(month_reports.known(calls, column)), field
        for field in ("duration_ms", "ttft_ms"):
            times = sorted(call[field] for call in calls if call[field])
            for name_of, part in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
                exact = times[-(-int(1000 * part) * len(times) // 1000) - 1]
                assert found[field][name_of] == pytest.approx(exact, rel=0.01), (field, name_of)


@pytest.mark.parametrize("bucket", BUCKETS)
def test_a_series_puts_each_call_where_the_calendar_and_clock_of_its_zone_show(told: Told, bucket):
    (series,) = told.answers[bucket]["series"]
    points = {point.pop("start"): point for point in ({**p} for p in series["points"])}
    groups = by(told.calls(), lambda call: bucket_start(call, bucket, told.zone))
    assert [at for at in groups if at not in points] == []
    assert points == {at: measured(groups.get(at, [])) for at in points}
    assert list(points) == sorted(points, key=datetime.fromisoformat)
    if bucket == "day":
        assert len(points) == (AFTER - FIRST).days


def bucket_start(call: Row, bucket: str, zone: ZoneInfo) -> str:
    day = call["occurred_at"].astimezone(zone).date()
    if bucket == "hour":
        return month_reports.hour_began(call["occurred_at"], zone).astimezone(zone).isoformat()
    first = {"day": day, "week": day - timedelta(days=day.weekday()), "month": day.replace(day=1)}[bucket]
    return midnight(first, zone).astimezone(zone).isoformat()


@pytest.mark.parametrize("bucket", ["day", "month"])
def test_each_group_has_a_series_the_most_expensive_first(told: Told, bucket):
    groups = by(told.calls(), lambda call: (call["model"], call["team"]))
    order = sorted(groups, key=lambda key: (-cost(groups[key]), -month_reports.tokens(groups[key]), key))
    found = told.answers[f"{bucket}-by"]["series"]
    assert [(one["key"]["model"], one["key"]["team"]) for one in found] == order
    for one, key in zip(found, order, strict=True):
        starts = by(groups[key], lambda call: bucket_start(call, bucket, told.zone))
        assert {p.pop("start"): p for p in ({**p} for p in one["points"]) if p["calls"]} == {
            at: measured(own) for at, own in starts.items()
        }


@pytest.mark.parametrize(
    ("name", "by_names", "metric", "limit"),
    [("breakdown", ("user_id", "model"), "cost", TOP_FEW),
     ("breakdown-ragged", ("project", "git_branch"), "tokens", 50)],
)  # fmt: skip
def test_a_breakdown_and_what_it_leaves_out_are_the_whole(told: Told, name, by_names, metric, limit):
    calls = told.calls(*RAGGED) if name.endswith("ragged") else told.calls()
    value = month_reports.VALUES[metric]
    groups = by(calls, lambda call: tuple(call[n] for n in by_names))
    order = sorted(groups, key=lambda key: (-value(groups[key]), key))
    found = told.answers[name]
    assert found["rows"] == [
        {"key": dict(zip(by_names, key, strict=True)), **measured(groups[key]),
         "share": share(value(groups[key]), value(calls))}
        for key in order[:limit]
    ]  # fmt: skip
    rest = [call for key in order[limit:] for call in groups[key]]
    assert found["other"] == {
        "groups": len(order[limit:]), **measured(rest), "share": share(value(rest), value(calls)),
    }  # fmt: skip


def test_reports_of_people_have_their_sums_days_sessions_and_months(told: Told):
    calls = told.calls()
    for name, metric in (("top-users", "tokens"), ("top-users-cost", "cost"), ("top-users-calls", "calls")):
        assert told.rows(name) == month_reports.top_users(calls, told.zone, metric), name
    assert told.rows("top-users-few") == told.rows("top-users-cost")[: TOP_FEW - 1]
    assert told.rows("monthly-per-user") == month_reports.monthly(calls, told.zone, detail=False)
    assert told.rows("monthly-per-user-detail") == month_reports.monthly(calls, told.zone, detail=True)
    until = midnight(AFTER, told.zone) - timedelta(milliseconds=1)
    assert told.rows("quota") == month_reports.quota(told.every, told.zone, min(until, NOW), QUOTAS)


def test_kinds_of_token_have_their_cost_by_model_and_hour_by_hour(told: Told):
    calls = told.calls()
    assert told.rows("model-token-types") == month_reports.model_token_types(calls)
    assert told.rows("cost-attribution") == month_reports.cost_attribution(calls, told.zone)


def test_the_week_has_each_hour_of_a_wall_clock(told: Told):
    assert told.rows("activity-pattern") == month_reports.activity_pattern(told.calls(), told.zone)


@pytest.mark.parametrize(
    ("name", "column"),
    [("by-team", "team"), ("by-department", "department"), ("by-cost-center", "cost_center"),
     ("by-identity-provider", "identity_provider"), ("by-organization", "organization"),
     ("by-email-domain", "email_domain")],
)  # fmt: skip
def test_parts_of_an_organisation_have_their_sums_users_and_share(told: Told, name, column):
    keys = {"organization": lambda call: call["org_id"], "email_domain": month_reports.email_domain}
    key = keys.get(column, lambda call: call[column])
    assert told.rows(name) == month_reports.split_by(told.calls(), column, key)


def test_rates_and_peaks_are_of_real_minutes(told: Told):
    calls = told.calls()
    for name, names in (("rates", ("user_id", "model")), ("rates-user", ("user_id",)),
                        ("rates-model", ("model",)), ("rates-all", ())):  # fmt: skip
        assert told.rows(name) == month_reports.rates(calls, names), name
    assert told.rows("peaks") == month_reports.peaks(calls, told.zone, 40, 1_000_000)


def test_sessions_are_as_long_and_as_intense_as_their_calls(told: Told):
    expected = month_reports.sessions(told.calls())
    assert [instants(row) for row in told.rows("sessions")] == expected
    only_listed = ("duration_s", "calls_per_hour", "tokens_per_minute")
    listed = [{name: row[name] for name in row if name not in only_listed} for row in expected]
    assert [instants(row) for row in told.answers["session-list"]["items"]] == listed


def instants(row: dict[str, Any]) -> dict[str, Any]:
    return {
        n: datetime.fromisoformat(v).replace(tzinfo=UTC) if n.endswith("_at") else v for n, v in row.items()
    }


def test_caches_and_their_losses_are_judged_call_by_call(told: Told):
    calls = told.calls()
    assert told.rows("cache") == month_reports.cache(calls)
    assert told.rows("cache-losses") == month_money.cache_losses(calls, told.zone)
    assert told.rows("unpriced") == month_reports.unpriced(calls)


def test_plans_cover_whole_local_days_of_their_people(told: Told):
    plans = PLANS if told.org_id == "org_a" else ()
    expected = month_money.plan_savings(told.every, told.zone, plans, FIRST, AFTER)
    assert told.rows("plan-savings") == expected


def test_pace_has_the_average_trend_and_projections_of_the_days(told: Told):
    first = NOW.astimezone(told.zone).date() - timedelta(days=31)
    (found,) = told.rows("pace")
    expected = month_money.pace(told.every, told.zone, first, NOW)
    for name in ("by", "key", "metric", "days", "trend"):
        assert found.pop(name) == expected.pop(name), name
    assert found.pop("slope_share") == pytest.approx(expected.pop("slope_share"), abs=1e-6)
    assert found.pop("mann_kendall_z") == pytest.approx(expected.pop("mann_kendall_z"), abs=1e-4)
    for span in ("week", "month"):
        assert found.pop(f"{span}_so_far") == month_reports.usd(expected.pop(f"{span}_so_far"))
    assert {n: float(v) for n, v in found.items()} == {n: nearly(v / 10**9) for n, v in expected.items()}


def test_days_far_from_their_weekdays_are_told(told: Told):
    days = [FIRST + timedelta(days=n) for n in range((AFTER - FIRST).days)]
    before = told.calls(FIRST - timedelta(days=60))
    assert told.rows("anomalies") == month_money.anomalies(before, told.zone, days, 2, 4)


def test_blocks_are_those_of_each_account_over_all_its_machines(told: Told):
    found = told.answers["blocks"]
    theirs = month_money.accounts(told.every)
    last = {name: max(call["occurred_at"] for call in own) for name, own in theirs.items()}
    assert [one["account"] for one in found["accounts"]] == sorted(
        sorted(theirs), key=last.__getitem__, reverse=True
    )
    start, end = midnight(FIRST, told.zone), midnight(AFTER, told.zone)
    for one in found["accounts"]:
        own = theirs[one["account"]]
        expected = [
            row
            for row in month_money.blocks(own, NOW, told.zone)
            if datetime.fromisoformat(row["end"]) > start and datetime.fromisoformat(row["start"]) < end
        ]
        for row in one["blocks"]:
            check_pace(row, own)
            assert row.pop("account") == one["account"]
        assert one["blocks"] == expected
        recent = [c for c in own if NOW - timedelta(days=7) <= c["occurred_at"] <= NOW]
        assert {n: one["week"][n] for n in month_money.window(recent)} == month_money.window(recent)


def check_pace(row: dict[str, Any], calls: list[Row]) -> None:
    start, end = datetime.fromisoformat(row["start"]), datetime.fromisoformat(row["end"])
    own = [] if row["is_gap"] else [
        c for c in calls
        if datetime.fromisoformat(row["first_call_at"]) <= c["occurred_at"]
        <= datetime.fromisoformat(row["last_call_at"])
    ]  # fmt: skip
    assert start < end
    expected = month_money.burn(own, end, NOW) if own else None
    burn, projection = row.pop("burn_rate"), row.pop("projection")
    assert burn == (expected and nearly(expected[0]))
    ahead = expected if row["is_active"] else None
    assert projection == (ahead and {**nearly(ahead[1]).expected, "total_tokens": pytest.approx(
        ahead[1]["total_tokens"], abs=0.5), "cost_usd": nearly(ahead[1]["cost_usd"])})  # fmt: skip


def test_a_comparison_is_of_whole_weeks_though_clocks_change_in_one(told: Told):
    found = told.answers["compare"]
    monday = date(2026, 10, 26)
    week = timedelta(days=7)
    sides = {"current": told.calls(monday, monday + week), "against": told.calls(monday - week, monday)}
    groups = {side: by(calls, lambda c: (c["user_id"], c["model"])) for side, calls in sides.items()}
    names, keys = ("user_id", "model"), groups["current"].keys() | groups["against"].keys()
    assert len(found["rows"]) == len(keys)
    assert {tuple(row["key"][n] for n in names): without_change(row) for row in found["rows"]} == {
        key: compared(*(groups[side].get(key, []) for side in sides)) for key in keys
    }
    distance = [-abs(Decimal(row["difference"])) for row in found["rows"]]
    assert distance == sorted(distance)
    assert found["total"] == compared(*sides.values())
    assert found["against"]["from"] == midnight(monday - week, told.zone).astimezone(told.zone).isoformat()


def compared(now: list[Row], then: list[Row]) -> dict[str, Any]:
    return {
        "current": measured(now), "against": measured(then),
        "difference": month_reports.usd(cost(now) - cost(then)),
        "ratio": round(cost(now) / cost(then), 6) if cost(then) else None,
    }  # fmt: skip


def without_change(row: dict[str, Any]) -> dict[str, Any]:
    now, then = row["current"], row["against"]
    word = row["change"]
    assert (word == "appeared") == (not then["calls"])
    assert (word == "vanished") == (not now["calls"])
    difference = Decimal(row["difference"])
    if word not in ("appeared", "vanished"):
        assert word == ("grown" if difference > 0 else "shrunk" if difference else "same")
    return {name: row[name] for name in ("current", "against", "difference", "ratio")}


def test_work_costs_what_its_calls_do_over_what_was_done(told: Told):
    assert told.rows("efficiency") == month_reports.efficiency(told.calls(), done(told))


def done(told: Told) -> list[Row]:
    start, end = midnight(FIRST, told.zone), midnight(AFTER, told.zone)
    return [one for one in DONE if one["org_id"] == told.org_id and start <= one["bucket"] < end]


def test_every_report_is_asked_and_none_is_without_rows(truth: Truth):
    told = truth.told[VIEWS[0]]
    assert [r.name for r in REPORTS if not told.rows(r.name)] == []


def test_every_report_is_listed_and_answers_in_every_format(truth: Truth):
    listed = truth.formats[""]["items"]
    assert [item["name"] for item in listed] == [r.name for r in REPORTS]
    rows = truth.told[VIEWS[0]].rows
    for item in listed:
        csv, ndjson, parquet = (truth.formats[f"{item['name']} {fmt}"] for fmt in TABLES)
        assert csv.decode().splitlines()[0].split(",") == item["columns"]
        assert len(ndjson.splitlines()) == len(rows(item["name"])), item["name"]
        assert parquet[:4] == parquet[-4:] == b"PAR1"
