"""Named reports where their parameters matter, by hand; `test_month.py` holds all of them to the truth."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from infra import month_reports
from infra.ledger_rows import call, insert_calls, insert_rows, taken_back
from infra.limit_rows import insert_limits
from infra.query_client import Caller, query_api
from tokentide_common.limit_facts import LimitFact

BEGIN, END = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 11, 20, 10, 7, 30, tzinfo=UTC)


async def rows_of(api: Caller, name: str, zone: ZoneInfo, **more: Any) -> list[dict[str, Any]]:
    asked = {"from": BEGIN.isoformat(), "to": END.isoformat(), "tz": zone.key, **more}
    answer = await api.json(f"/reports/{name}?{urlencode(asked)}")
    assert answer["report"] == name
    return answer["rows"]


def keyed(rows: list[dict[str, Any]], *names: str) -> dict[Any, dict[str, Any]]:
    found = {tuple(row[name] for name in names): row for row in rows}
    assert len(found) == len(rows), "a group comes once"
    return found


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


async def test_a_quota_that_is_no_amount_is_refused(store, tmp_path):
    async with query_api(store, tmp_path) as api:
        for amount in ("0", "-1", "x", "1e99", "nan", "0.0000000001"):
            answer = await api.get(f"/reports/quota?day_tokens={amount}")
            assert answer.status_code == 400, amount
            assert answer.json()["errors"][0]["field"] == "day_tokens"


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


async def test_rates_are_exact_of_rows_that_are_not_put_together_and_at_the_ends_of_a_period(store, tmp_path):
    """Bounds of decoys are higher than any minute of theirs: of two asked for, too many to look at."""
    await store.command("SYSTEM STOP MERGES usage_day_minutes")
    day, zone = datetime(2026, 3, 2, tzinfo=UTC), ZoneInfo("UTC")
    decoys = [f"d{n}" for n in range(81)]
    told = {"model": "m", "input_tokens": 0, "cache_read_tokens": 7, "cache_write_5m_tokens": 0,
            "cache_write_1h_tokens": 0}  # fmt: skip

    def of(user: str, at: datetime, output_tokens: int) -> dict[str, Any]:
        return call(user_id=user, occurred_at=at, output_tokens=output_tokens, **told)

    gone = of("gone", day, 9_000)
    inside = [[*(of(d, day + timedelta(minutes=n), 100) for d in decoys), of("y", day, 50)] for n in range(3)]
    inside[0] += [of("z", day, 250), of("early", BEGIN + timedelta(hours=10, seconds=31), 40)]
    inside[0] += [of("z", END - timedelta(seconds=n), 20) for n in (1, 31, 3600, 24 * 3600)]
    inside[0] += [of("z", BEGIN + timedelta(days=1, minutes=n), 30) for n in (60, 61, 61)]
    for n, block in enumerate(inside):
        await insert_calls(store, [*block, gone] if n == 1 else block)
    await insert_rows(store, [taken_back(gone)])
    begin = BEGIN + timedelta(hours=10, seconds=30)
    early = timedelta(seconds=1)
    outside = [of(user, at, 5_000) for user in ("z", "early") for at in (END, begin - early)]
    await insert_calls(store, outside)
    live = [each for block in inside for each in block]
    since = {"from": begin.isoformat()}
    async with query_api(store, tmp_path) as api:
        for most in (1, 2, 40):
            rows = await rows_of(api, "rates", zone, **since, limit=most)
            assert rows == month_reports.rates(live, ("user_id", "model"))[:most]
        (mine,) = await rows_of(
            api, "peaks", zone, **since, limit=1, user_id="z", tokens_per_minute=1_000_000
        )
        assert [mine] == month_reports.peaks([c for c in live if c["user_id"] == "z"], zone, 1, 1_000_000)
    await store.command("SYSTEM START MERGES usage_day_minutes")
    await store.command("OPTIMIZE TABLE usage_day_minutes FINAL")
    async with query_api(store, tmp_path / "merged") as api:
        rows = await rows_of(api, "rates", zone, **since, limit=100)
    assert rows == month_reports.rates(live, ("user_id", "model"))


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
