"""Comparison, pace, anomalies, efficiency, caches and unpriced models, against numbers computed by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest

from infra import query_oracle as oracle
from infra.activity_rows import activity, insert_activity
from infra.ledger_rows import call, insert_calls
from infra.query_client import NOW, query_api
from tokentide_query_api.money import cache_losses

OPUS = {"provider": "anthropic", "model": "claude-opus-4-5"}
"""At list: 5 USD a million of input, 25 of output, 0.50 read from the cache, 6.25 and 10 written to it."""
USD = 10**9
MONDAY = datetime(2026, 11, 16, 12, tzinfo=UTC)  # of the week in which NOW is a Sunday


def spent(dollars: float, at: datetime, **fields: Any) -> dict[str, Any]:
    return call(cost_nano=round(dollars * USD), occurred_at=at, **fields)


async def rows(api, name: str, **asked: Any) -> list[dict[str, Any]]:
    found = await api.json(f"/reports/{name}?{urlencode(asked, doseq=True)}")
    return found["rows"]


async def test_two_periods_are_compared_group_by_group(store, tmp_path):
    day, before = datetime(2026, 11, 10, 9, tzinfo=UTC), datetime(2026, 11, 9, 9, tzinfo=UTC)
    await insert_calls(store, [
        spent(3, day, model="grown", output_tokens=5), spent(1, before, model="grown", output_tokens=2),
        spent(2, day, model="new"), spent(5, before, model="gone"),
        spent(1, day, model="same"), spent(1, before, model="same"),
        spent(9, day - timedelta(days=9), model="earlier"),
    ])  # fmt: skip
    async with query_api(store, tmp_path) as api:
        told = await api.json("/compare?from=2026-11-10")
        few = await api.json("/compare?from=2026-11-10&limit=1")
        tokens = await api.json("/compare?from=2026-11-10&metric=tokens&model=grown")
        table = (await api.get("/compare?from=2026-11-10&format=csv")).text.splitlines()
    assert [(r["key"]["model"], r["change"], r["difference"], r["ratio"]) for r in told["rows"]] == [
        ("gone", "vanished", "-5", 0), ("grown", "grown", "2", 3), ("new", "appeared", "2", None),
        ("same", "same", "0", 1),
    ]  # fmt: skip
    assert told["against"] == {"from": "2026-11-09T00:00:00+00:00", "to": "2026-11-10T00:00:00+00:00"}
    assert (told["total"]["current"]["cost_usd"], told["total"]["against"]["cost_usd"]) == ("6", "7")
    assert (told["total"]["difference"], told["total"]["ratio"]) == ("-1", round(6 / 7, 6))
    assert (few["other"]["groups"], few["other"]["difference"]) == (3, "4")
    assert few["total"] == told["total"]
    assert (tokens["rows"][0]["difference"], tokens["rows"][0]["against"]["output_tokens"]) == ("3", 2)
    assert len(table) == 6
    assert table[-1].startswith("true,")


@pytest.mark.parametrize(
    ("asked", "start"),
    [
        ("from=month", "2026-10-01T00:00:00+02:00"),
        ("from=week", "2026-11-09T00:00:00+01:00"),
        ("from=month&against=year", "2025-11-01T00:00:00+01:00"),
        ("from=today&against_from=2026-10-25", "2026-10-25T00:00:00+02:00"),
        ("from=today&against_from=last_month&against_to=yesterday", "2026-10-01T00:00:00+02:00"),
    ],
)
async def test_the_other_period_is_named_or_found_by_the_calendar(store, tmp_path, asked, start):
    async with query_api(store, tmp_path) as api:
        told = await api.json(f"/compare?tz=Europe/Berlin&{asked}")
        refused = await api.get("/compare?against_to=today")
    assert told["against"]["from"] == start
    assert refused.json()["code"] == "invalid_period"


async def test_a_comparison_with_upgrades_and_zones_is_that_of_plain_calls(store, tmp_path):
    live = await oracle.fill(store, seed=5, zone="America/New_York")
    periods = [
        (datetime(2026, 11, 1, 4, tzinfo=UTC), datetime(2026, 11, 8, 5, tzinfo=UTC)),
        (datetime(2026, 10, 25, 4, tzinfo=UTC), datetime(2026, 11, 1, 4, tzinfo=UTC)),
    ]
    async with query_api(store, tmp_path) as api:
        told = await api.json(
            "/compare?from=2026-11-01&to=2026-11-07&tz=America/New_York&by=user_id&by=model&limit=500"
        )
    for side, (start, end) in zip(("current", "against"), periods, strict=True):
        own = oracle.within(live, "org_a", start, end)
        assert own
        groups = oracle.grouped(own, lambda c: (c["user_id"], c["model"]))
        found = {tuple(row["key"].values()): row[side] for row in told["rows"] if row[side]["calls"]}
        assert found.keys() == groups.keys()
        for key, calls in groups.items():
            assert oracle.answered(found[key]) == oracle.measures(calls)
        assert oracle.answered(told["total"][side]) == oracle.measures(own)


async def test_pace_has_average_trend_and_where_week_and_month_lead(store, tmp_path):
    # Three weeks of weekdays before this one: 1 USD on each day; then 4 USD this Monday, and 2 today, Sunday.
    days = [MONDAY - timedelta(days=n) for n in range(1, 22)]
    await insert_calls(store, [spent(1, day, model="m") for day in days] + [
        spent(4, MONDAY, model="m"), spent(2, NOW - timedelta(hours=1), model="n"),
    ])  # fmt: skip
    async with query_api(store, tmp_path) as api:
        (row,) = await rows(api, "pace")
        by_model = await rows(api, "pace", by="model")
        (calls,) = await rows(api, "pace", metric="calls")
    # whole days: 21 with 1, Monday with 4, Tuesday to Saturday with nothing
    assert (row["days"], Decimal(row["daily_average"])) == (27, Decimal("0.925925926"))
    assert (row["trend"], row["slope_per_day"], row["metric"]) == ("steady", "0", "cost_usd")
    assert row["week_so_far"] == "6"
    # 21 of the 28 days' Sundays had 1: what is left of today is 13.5 hours of that
    assert Decimal(row["week_projected"]) == Decimal("6") + Decimal("13.5") / 24
    assert Decimal(row["week_low"]) < Decimal(row["week_projected"]) < Decimal(row["week_high"])
    # November: 15 days of 1, Monday 4, today 2; ahead: a Monday of 7/4, five other weekdays of 3/4, 1, 1, 7/4
    assert row["month_so_far"] == "21"
    ahead = 2 * Decimal(7) / 4 + 5 * Decimal(3) / 4 + 1
    assert Decimal(row["month_projected"]) == 21 + Decimal("13.5") / 24 + ahead
    assert [r["key"] for r in by_model] == ["m", "n"]
    assert (by_model[1]["daily_average"], by_model[1]["week_so_far"]) == (None, "2")
    assert (calls["metric"], calls["month_so_far"]) == ("calls", "17")


async def test_a_rising_pace_is_told_with_its_slope(store, tmp_path):
    calls = [spent(n, NOW - timedelta(days=21 - n), model="m") for n in range(1, 21)]
    await insert_calls(store, calls)
    async with query_api(store, tmp_path) as api:
        (row,) = await rows(api, "pace")
    assert (row["trend"], row["slope_per_day"], row["daily_average"]) == ("rising", "1", "10.5")
    assert row["slope_share"] == pytest.approx(1 / 10.5, abs=1e-6)


async def test_a_day_is_an_anomaly_beside_its_own_weekdays(store, tmp_path):
    friday = datetime(2026, 11, 20, 12, tzinfo=UTC)
    history = [10, 12, 8, 11, 9]  # of Fridays: median 10, median absolute deviation 1
    calls = [
        spent(usd, friday - timedelta(weeks=n), user_id="u", model="m") for n, usd in enumerate(history, 1)
    ]
    calls += [spent(500, friday - timedelta(days=1, weeks=n), user_id="u", model="m") for n in range(6)]
    calls += [spent(3, friday - timedelta(weeks=n), user_id="young", model="m") for n in range(3)]
    await insert_calls(store, [*calls, spent(40, friday, user_id="u", model="m")])
    async with query_api(store, tmp_path) as api:
        (row,) = await rows(api, "anomalies", by="user_id", **{"from": "7d"})
        none = await rows(api, "anomalies", by="user_id", threshold=21, **{"from": "7d"})
        most_of_it = {"from": "2026-11-20T00:00:00Z", "to": "2026-11-20T23:00:00Z"}
        not_whole = await rows(api, "anomalies", by="user_id", **most_of_it)
    assert row == {
        "by": "user_id", "key": "u", "day": "2026-11-20T00:00:00+00:00", "metric": "cost_usd",
        "direction": "high", "value": "40", "median": "10", "spread": "1.4826",
        "z": round(30 / 1.4826, 3), "history_days": 5,
    }  # fmt: skip
    assert none == []
    assert not_whole == []


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ("anomalies?threshold=x", "threshold"), ("anomalies?threshold=nan", "threshold"),
        ("anomalies?min_history=2", "min_history"), ("anomalies?min_history=9", "min_history"),
        ("anomalies?from=year", "from"), ("anomalies?by=model&by=user_id", "by"),
        ("pace?by=model,user_id", "by"), ("pace?from=year", "from"), ("pace?limit=51", "limit"),
        ("efficiency?by=client,team", "by"), ("cache?by=client,team", "by"),
    ],
)  # fmt: skip
async def test_what_cannot_be_judged_is_refused(store, tmp_path, asked, field):
    async with query_api(store, tmp_path) as api:
        answer = await api.get(f"/reports/{asked}")
    assert answer.status_code == 400
    assert field in {error["field"] for error in answer.json()["errors"]}


async def test_efficiency_is_cost_over_what_was_done(store, tmp_path):
    at = datetime(2026, 11, 20, 12, 5, tzinfo=UTC)
    quarter = at.replace(minute=0)
    await insert_calls(
        store, [spent(6, at, user_id="u", output_tokens=10), spent(1, at, user_id="idle", output_tokens=1)]
    )
    done = [
        ("commits", 3, {}), ("pull_requests", 1, {}), ("active_time_s", 1800, {"kind": "cli"}),
        ("active_time_s", "900.5", {"kind": "user"}), ("lines_of_code", 400, {"kind": "added"}),
        ("lines_of_code", 100, {"kind": "removed"}), ("edit_decisions", 8, {"decision": "accept"}),
        ("edit_decisions", 2, {"decision": "reject"}), ("prompts", 99, {}),
    ]  # fmt: skip
    rows_done = [activity(metric, value, bucket=quarter, user_id="u", **more) for metric, value, more in done]
    theirs = activity("commits", 70, bucket=quarter, user_id="u", org_id="org_b")
    await insert_activity(store, [*rows_done, theirs])
    async with query_api(store, tmp_path) as api:
        users = await rows(api, "efficiency", by="user_id")
        (whole,) = await rows(api, "efficiency")
        unknown = await api.get("/reports/efficiency?by=model")
    first, idle = users
    assert (first["key"], idle["key"]) == ("u", "idle")
    assert {name: first[name] for name in first if name.startswith(("cost_per", "edit_"))} == {
        "cost_per_commit_usd": "2", "cost_per_pull_request_usd": "6", "cost_per_1000_lines_usd": "12",
        "cost_per_accepted_edit_usd": "0.75", "edit_acceptance_rate": 0.8,
        "cost_per_active_hour_usd": str(round(6 * 3600 / Decimal("2700.5"), 9)),
    }  # fmt: skip
    assert (first["lines_added"], first["lines_removed"], first["user_time_s"]) == ("400", "100", "900.5")
    assert (idle["commits"], idle["cost_per_commit_usd"], idle["edit_acceptance_rate"]) == ("0", None, None)
    assert (whole["cost_usd"], whole["cost_per_commit_usd"]) == ("7", "2.333333333")
    assert unknown.json()["code"] == "unknown_dimension"


async def test_caches_are_judged_at_list_prices(store, tmp_path):
    await insert_calls(store, [
        call(**OPUS, input_tokens=100_000, cache_read_tokens=1_000_000, cache_write_5m_tokens=200_000,
             cache_write_1h_tokens=100_000, cost_nano=1),
        call(provider="x", model="nobody knows", input_tokens=5, cache_read_tokens=7),
    ])  # fmt: skip
    async with query_api(store, tmp_path) as api:
        known, unknown = await rows(api, "cache")
        (whole,) = await rows(api, "cache", by="")
    # 1 million read at 0.50 in place of 5; 0.2 written at 6.25 and 0.1 at 10 in place of 5; 0.1 · (10 − 6.25)
    assert {name: known[name] for name in known if name.endswith("_usd")} == {
        "saved_by_reads_usd": "4.5", "paid_for_writes_usd": "0.75", "net_saved_usd": "3.75",
        "extra_for_1h_writes_usd": "0.375",
    }  # fmt: skip
    assert known["cache_hit_ratio"] == round(1_000_000 / 1_400_000, 6)
    assert (unknown["unpriced_input_tokens"], unknown["net_saved_usd"]) == (12, "0")
    assert (whole["calls"], whole["net_saved_usd"], whole["unpriced_input_tokens"]) == (2, "3.75", 12)


async def test_sessions_that_lost_their_cache_say_when_why_and_what_it_cost(store, tmp_path, monkeypatch):
    at = datetime(2026, 11, 20, 12, tzinfo=UTC)

    def turn(minutes: int, **tokens: Any) -> dict[str, Any]:
        return call(**OPUS, session_id="s", occurred_at=at + timedelta(minutes=minutes), **tokens)

    await insert_calls(store, [
        turn(0, cache_write_5m_tokens=40_000),
        turn(1, cache_read_tokens=40_000, cache_write_5m_tokens=10_000),
        turn(12, cache_write_5m_tokens=60_000),
        turn(13, cache_read_tokens=60_000),
        call(**OPUS, session_id="calm", occurred_at=at, cache_write_5m_tokens=9_000),
    ])  # fmt: skip
    async with query_api(store, tmp_path) as api:
        (row,) = await rows(api, "cache-losses")
        for most, expected in ((3, [row]), (2, [])):  # of the newest three one lost its cache, of two none
            monkeypatch.setattr(cache_losses, "MOST_CALLS", most)
            assert await rows(api, "cache-losses", limit=most) == expected
    assert row == {
        "session_id": "s", "calls": 4, "cache_hit_ratio": round(100 / 210, 6), "losses": 1,
        "losses_expired": 1, "losses_model_changed": 0, "losses_prompt_changed": 0, "lost_tokens": 50_000,
        # 50,000 tokens written again at 6.25 in place of read at 0.50
        "cost_usd": "0.2875", "unpriced_losses": 0, "worst_at": "2026-11-20T12:12:00.000+00:00",
        "worst_lost_tokens": 50_000, "worst_gap_s": 660,
    }  # fmt: skip


async def test_unpriced_models_say_what_they_would_cost_by_now(store, tmp_path):
    await insert_calls(store, [
        call(**OPUS, unpriced=True, input_tokens=1000, output_tokens=2000, cache_read_tokens=3000),
        call(**OPUS, unpriced=True, input_tokens=1000),
        call(**OPUS, cost_nano=5, input_tokens=1000),
        call(provider="x", model="nobody knows", unpriced=True, input_tokens=500),
    ])  # fmt: skip
    async with query_api(store, tmp_path) as api:
        known, unknown = await rows(api, "unpriced")
    assert (known["unpriced_calls"], known["total_tokens"], known["priceable_calls"]) == (2, 7000, 2)
    assert known["would_cost_usd"] == "0.0615"  # 2,000 at 5, 2,000 at 25, 3,000 at 0.50 a million
    assert (unknown["model"], unknown["would_cost_usd"], unknown["priceable_calls"]) == (
        "nobody knows",
        None,
        0,
    )


async def test_viewers_see_no_persons_and_members_their_own_money(store, tmp_path):
    async with query_api(store, tmp_path) as api:
        member = api.who("member")
        await insert_calls(store, [
            spent(1, NOW - timedelta(days=1), user_id=member.user_id, model="own"),
            spent(9, NOW - timedelta(days=1), user_id="other", model="theirs"),
        ])  # fmt: skip
        refused = [
            await api.ask("GET", path, "viewer")
            for path in ("/compare?by=user_id", "/reports/pace?by=user_id", "/reports/anomalies?by=user_id",
                         "/reports/efficiency?by=user_id", "/reports/cache?by=user_id",
                         "/reports/cache-losses")
        ]  # fmt: skip
        own = (await api.ask("GET", "/compare?from=7d", "member")).json()
        pace = (await api.ask("GET", "/reports/pace", "member")).json()["rows"]
    assert {answer.status_code for answer in refused} == {403}
    assert {answer.json()["code"] for answer in refused} == {"aggregates_only"}
    assert [row["key"]["model"] for row in own["rows"]] == ["own"]
    assert own["total"]["current"]["cost_usd"] == "1"
    assert pace[0]["week_so_far"] == "1"
