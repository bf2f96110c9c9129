"""Coverage on stored rows: who saw the calls per session and day, who fell silent, clients' own totals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.activity_rows import activity, insert_activity, totals
from infra.ledger_rows import call, insert_calls, upgrade
from infra.query_client import Caller, query_api

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
NOW = datetime(2026, 11, 22, 10, 30, tzinfo=UTC)
BOTH = ["cli", "otlp"]


@pytest.fixture
async def api(store, tmp_path):
    async with query_api(store, tmp_path) as caller:
        yield caller


def calls(sources: list[str], number: int = 1, *, after_minutes: float = 0, **fields: Any) -> list[Any]:
    """Return calls of a session, a minute apart."""
    tokens = {"session_id": "s", "model": "m", "input_tokens": 10, "output_tokens": 5, "cost_nano": 1_000_000}
    return [
        call(
            **{**tokens, **fields},
            sources=sources,
            occurred_at=NOON + timedelta(minutes=after_minutes + n),
        )
        for n in range(number)
    ]


async def item(api: Caller, query: str = "from=7d") -> Any:
    (found,) = (await api.json(f"/coverage?{query}"))["items"]
    return found


async def reasons(api: Caller) -> dict[str, str]:
    return {one["against"]: one["likely_reason"] for one in (await item(api))["reconciliation"]}


async def test_calls_that_a_source_lacks_are_counted(api, store):
    await insert_calls(store, [*calls(["cli"], 2), *calls(["otlp"], 3), *calls(["proxy"]), *calls(BOTH)])
    found = await item(api)
    assert (found["calls"], found["calls_log_lacks"], found["calls_telemetry_lacks"]) == (7, 4, 3)


async def test_a_session_whose_telemetry_fell_silent_says_since_when(api, store):
    await insert_calls(store, [*calls(BOTH, 2), *calls(["cli"], 3, after_minutes=10)])
    assert (await item(api))["stopped_emitting"] == {"since": "2026-11-20T12:10:00.000+00:00", "calls": 3}


@pytest.mark.parametrize(
    ("first", "then"),
    [(["cli"], ["cli"]), (BOTH, ["proxy"]), (["cli"], BOTH), (["otlp"], BOTH)],
    ids=["never emitted", "the log is silent too", "emitted to the end", "began with telemetry only"],
)
async def test_no_other_session_has_stopped_emitting(api, store, first, then):
    await insert_calls(store, [*calls(first, 3), *calls(then, 5, after_minutes=10)])
    assert (await item(api))["stopped_emitting"] is None


async def test_two_last_calls_without_telemetry_are_no_silence(api, store):
    await insert_calls(store, [*calls(BOTH), *calls(["cli"], 2, after_minutes=10)])
    assert (await item(api))["stopped_emitting"] is None


async def test_telemetry_that_arrives_later_ends_the_silence(api, store):
    late = calls(["cli"], 3, after_minutes=10)
    await insert_calls(store, [*calls(BOTH), *late])
    await upgrade(store, late[-1], {**late[-1], "sources": BOTH})
    assert (await item(api))["stopped_emitting"] is None


async def test_calls_are_held_against_both_statements_of_the_client(api, store):
    await insert_calls(store, calls(BOTH, 2, cache_read_tokens=3, reported_cost_nano=1_000_000))
    said = {"session_id": "s", "input": 20, "output": 10, "cache_read": 6}
    await insert_activity(store, totals("client", "0.002", **said))
    await insert_activity(store, totals("session", "0.003", **{**said, "input": 27}))
    metrics, log = (await item(api))["reconciliation"]
    same = {"calls": 20, "client": 20, "difference": 0}
    assert (metrics["against"], metrics["input_tokens"], metrics["likely_reason"]) == (
        "metrics",
        same,
        "equal",
    )
    assert metrics["cost_usd"] == {"calls": "0.002", "client": "0.002", "difference": "0"}
    assert log["against"] == "log"
    assert log["input_tokens"] == {"calls": 20, "client": 27, "difference": 7}
    assert log["cache_read_tokens"] == {"calls": 6, "client": 6, "difference": 0}
    assert log["cache_write_tokens"] == {"calls": 0, "client": 0, "difference": 0}
    assert log["reported_cost_usd"] == {"calls": "0.002", "client": "0.003", "difference": "0.001"}
    assert log["likely_reason"] == "client_counts_other_calls"


async def test_a_session_of_which_the_client_says_nothing_is_held_against_nothing(api, store):
    await insert_calls(store, calls(["cli"]))
    await insert_activity(store, [activity("lines_of_code", 7, session_id="s")])
    await insert_activity(store, totals("client", "1", input=5, session_id="other"))
    await insert_activity(store, totals("client", "1", input=5, session_id="s", org_id="org_b"))
    assert (await item(api))["reconciliation"] == []


async def test_the_whole_session_is_held_against_its_totals_whatever_is_asked(api, store):
    await insert_calls(store, [*calls(BOTH), *calls(BOTH, after_minutes=-1440, model="n")])
    await insert_activity(store, totals("client", "0.002", session_id="s", input=20, output=10))
    for query in ("from=7d", "from=2026-11-20&to=2026-11-20", "from=7d&model=n"):
        (one,) = (await item(api, query))["reconciliation"]
        assert (one["input_tokens"]["calls"], one["likely_reason"]) == (20, "equal")
    assert (await item(api, "from=7d&model=n"))["calls"] == 1


async def test_an_upgrade_moves_the_comparison_with_the_call(api, store):
    (old,) = calls(["cli"], output_tokens=1)
    await insert_calls(store, [old])
    await insert_activity(store, totals("session", "0.001", session_id="s", input=10, output=5))
    assert await reasons(api) == {"log": "log_output_is_partial"}
    await upgrade(store, old, {**old, "output_tokens": 5, "sources": BOTH, "token_source": "otlp"})
    assert await reasons(api) == {"log": "equal"}


async def test_later_totals_of_a_series_replace_the_earlier_ones(api, store):
    await insert_calls(store, calls(["cli"], 2))
    rows = totals("session", "0.001", session_id="s", input=10, output=5)
    await insert_activity(store, rows)
    assert await reasons(api) == {"log": "client_stopped_counting"}
    later = NOON + timedelta(minutes=15)
    await insert_activity(store, [{**row, "bucket": later} for row in rows])  # what it rose by
    assert await reasons(api) == {"log": "equal"}


async def test_cache_writes_of_an_unknown_time_explain_another_cost(api, store):
    await insert_calls(store, calls(["otlp"], cache_write_5m_tokens=7, cache_split_known=False))
    said = {"session_id": "s", "input": 10, "output": 5, "cache_write": 7}
    await insert_activity(store, totals("client", "0.002", **said))
    assert await reasons(api) == {"metrics": "cache_split_unknown"}


async def test_a_fork_is_told_by_the_session_that_its_totals_go_on_from(api, store):
    await insert_calls(store, calls(["cli"]))
    said = {"session_id": "s", "input": 90, "output": 45}
    await insert_activity(store, totals("session", "9", **said, tags={"forked_from": "parent"}))
    assert await reasons(api) == {"log": "client_counts_other_calls"}


async def test_input_that_includes_the_cache_is_taken_apart(api, store):
    await insert_calls(store, calls(["otlp"], cache_read_tokens=90))
    await insert_activity(store, totals("client", session_id="s", prompt=100, prompt_cached=90, output=5))
    (one,) = (await item(api))["reconciliation"]
    assert one["likely_reason"] == "equal"
    assert one["cost_usd"] == {"calls": "0.001", "client": None, "difference": None}


async def test_a_session_that_is_still_running_has_more_on_the_way(store, tmp_path):
    await insert_calls(store, calls(BOTH, 2))
    await insert_activity(store, totals("client", "0.001", session_id="s", input=10, output=5))
    async with query_api(store, tmp_path, now=NOON + timedelta(minutes=5)) as api:
        assert await reasons(api) == {"metrics": "still_running"}


async def test_days_count_calls_by_set_of_sources(api, store):
    night = {"after_minutes": 11.5 * 60, "session_id": "t"}  # 23:30 UTC is the next day in Berlin
    await insert_calls(store, [*calls(BOTH, 2), *calls(["cli"]), *calls(["otlp", "proxy"], **night)])
    await insert_calls(store, [call(org_id="org_b", occurred_at=NOON, sources=["api"])])
    answer = await api.json("/coverage/days?from=2026-11-19&to=2026-11-21&tz=Europe/Berlin")
    assert [day["start"] for day in answer["days"]] == [f"2026-11-{n}T00:00:00+01:00" for n in (19, 20, 21)]
    assert [day["calls"] for day in answer["days"]] == [0, 3, 1]
    assert answer["days"][1]["by_sources"] == [
        {"sources": ["cli"], "calls": 1},
        {"sources": ["cli", "otlp"], "calls": 2},
    ]
    assert [day["calls_log_lacks"] for day in answer["days"]] == [0, 0, 1]
    assert [day["calls_telemetry_lacks"] for day in answer["days"]] == [0, 1, 0]
    assert answer["total"]["seen_by"] == {"cli": 3, "otlp": 3, "proxy": 1, "api": 0}
    assert answer["total"]["calls"] == 4
    filtered = await api.json("/coverage/days?from=7d&session_id=t")
    assert filtered["total"]["calls"] == 1


async def test_days_count_sessions_that_only_metrics_know(api, store):
    await insert_calls(store, calls(["otlp"], session_id="called", after_minutes=-1440))
    await insert_activity(
        store,
        [
            *totals("client", "0.5", input=5, session_id="alone"),
            *totals("client", "0.5", input=5, session_id="called"),
            *totals("client", "0.5", input=5, session_id="theirs", org_id="org_b"),
            *totals("session", "0.5", input=5, session_id="log"),
            activity("lines_of_code", 7, session_id="lines"),
        ],
    )
    answer = await api.json("/coverage/days?from=2026-11-19&to=2026-11-20")
    assert [day["metrics_only_sessions"] for day in answer["days"]] == [0, 1]
    # They have no calls, so they are on no list of sessions.
    assert [one["session_id"] for one in (await api.json("/coverage?from=7d"))["items"]] == ["called"]


@pytest.mark.parametrize("path", ["/coverage", "/coverage/days"])
async def test_coverage_is_also_a_table(api, store, path):
    await insert_calls(store, calls(BOTH))
    await insert_activity(store, totals("client", "0.001", session_id="s", input=10, output=5))
    text = (await api.get(f"{path}?from=2026-11-20&to=2026-11-20&format=csv")).text
    head, row = text.splitlines()
    assert "seen_by_otlp" in head
    assert '"' in row
    assert (await api.get(f"{path}?from=7d&format=parquet")).content[:4] == b"PAR1"
