"""Lists of the query API: order, pages and cursors of calls, sessions and coverage; one call in full."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
import pytest

from infra import query_oracle as oracle
from infra.ledger_rows import call, insert_calls, insert_rows, milliseconds, taken_back, upgrade
from infra.query_client import Caller, query_api
from tokentide_common.events import UsageEvent

YEAR = "from=2026-01-01&to=2026-12-01"


@pytest.fixture
async def api(store, tmp_path):
    async with query_api(store, tmp_path) as caller:
        yield caller


async def pages(api: Caller, path: str, limit: int) -> list[list[dict[str, Any]]]:
    """Walk through all pages of a list."""
    found, cursor = [], ""
    while True:
        page = await api.json(f"{path}&limit={limit}{cursor and '&cursor='}{cursor}")
        found.append(page["items"])
        if page["next_cursor"] is None:
            return found
        assert len(page["items"]) == limit
        cursor = page["next_cursor"]


@pytest.mark.parametrize("limit", [1, 7, 500])
async def test_pages_of_the_request_log_hold_every_live_call_once_newest_first(api, store, limit):
    live = await oracle.fill(store, seed=limit, zone="Europe/Berlin", size=60)
    mine = [c for c in live if c["org_id"] == "org_a"]
    expected = sorted(mine, key=lambda c: (milliseconds(c["occurred_at"]), c["call_id"]), reverse=True)
    found = [item for page in await pages(api, f"/calls?{YEAR}", limit) for item in page]
    assert [c["call_id"] for c in found] == [c["call_id"] for c in expected]
    assert [c["output_tokens"] for c in found] == [c["output_tokens"] for c in expected]


async def test_filters_of_the_request_log_hold_on_every_page(api, store):
    live = await oracle.fill(store, seed=3, zone="America/New_York", size=60)
    mine = [c for c in live if c["org_id"] == "org_a" and c["model"] == "gpt-x" and c["team"] != "t1"]
    found = [i for page in await pages(api, f"/calls?{YEAR}&model=gpt-x&not_team=t1", 3) for i in page]
    assert {c["call_id"] for c in found} == {c["call_id"] for c in mine}
    assert len(found) == len(mine)


async def test_many_upgrades_of_one_call_do_not_hide_its_neighbours(api, store):
    """The states of one call can fill a whole window of the ledger."""
    states = [call(call_id="req_busy", version=n, output_tokens=n) for n in range(1, 60)]
    rows = [row for state in states[:-1] for row in (state, taken_back(state))]
    neighbours = [call(call_id="req_a"), call(call_id="req_z")]
    await insert_rows(store, [*rows, states[-1], *neighbours])
    found = [item["call_id"] for page in await pages(api, "/calls?from=7d", 1) for item in page]
    assert found == ["req_z", "req_busy", "req_a"]


async def test_calls_that_arrive_meanwhile_do_not_shift_the_pages(api, store):
    base = call()["occurred_at"]
    await insert_calls(
        store, [call(call_id=f"req_{n}", occurred_at=base + timedelta(seconds=n)) for n in range(6)]
    )
    first = await api.json("/calls?from=7d&limit=3")
    await insert_calls(store, [call(occurred_at=base + timedelta(minutes=n)) for n in range(1, 4)])
    second = await api.json(f"/calls?from=7d&limit=3&cursor={first['next_cursor']}")
    assert [c["call_id"] for c in first["items"] + second["items"]] == [
        f"req_{n}" for n in (5, 4, 3, 2, 1, 0)
    ]


async def test_a_cursor_fits_only_the_question_and_the_organisation_it_came_from(api, store):
    await insert_calls(store, [call(org_id=org) for org in ("org_a", "org_b") for _ in range(3)])
    cursor = (await api.json("/calls?from=7d&limit=1"))["next_cursor"]
    for path, org in (
        (f"/calls?from=7d&model=m&cursor={cursor}", "org_a"),
        (f"/calls?from=30d&cursor={cursor}", "org_a"),
        (f"/sessions?from=7d&cursor={cursor}", "org_a"),
        (f"/calls?from=7d&cursor={cursor}", "org_b"),
        (f"/calls?from=7d&cursor={cursor[:-4]}", "org_a"),
        ("/calls?from=7d&cursor=W10", "org_a"),
    ):
        answer = await api.get(path, org)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor"), path
    assert len((await api.json(f"/calls?from=7d&limit=5&cursor={cursor}"))["items"]) == 2


async def test_a_call_record_is_flat_and_names_every_field_of_a_usage_event(api, store):
    await insert_calls(store, [call(call_id="req_1", cost_nano=13_898_500, reported_cost_nano=10**9)])
    record = await api.json("/calls/req_1")
    assert set(UsageEvent.__struct_fields__) | {"cost_usd", "price_version", "unpriced", "sources"} <= set(
        record
    )
    assert (record["cost_usd"], record["reported_cost_usd"]) == ("0.0138985", "1")
    listed = (await api.json("/calls?from=7d"))["items"][0]
    assert {**listed, "observations": record["observations"]} == record


async def test_a_call_names_which_source_said_what_and_when(api, store):
    said = [
        {"call_id": "req_1", "source": "proxy", "occurred_at": "2026-11-20T12:00:00Z", "output_tokens": 9,
         "observed_at": "2026-11-20T12:00:03Z", "org_id": "org_a"},
        {"call_id": "req_1", "source": "cli", "occurred_at": "2026-11-20T12:00:01Z", "output_tokens": 1,
         "observed_at": "2026-11-20T12:01:00Z", "org_id": "org_a"},
    ]  # fmt: skip
    old = call(call_id="req_1", output_tokens=1)
    await insert_calls(store, [old])
    alone = (await api.json("/calls/req_1"))["observations"]
    assert [(o["source"], o["output_tokens"]) for o in alone] == [("cli", 1)]
    both = {"sources": ["cli", "proxy"], "token_source": "proxy", "output_tokens": 9}
    await upgrade(store, old, {**old, **both, "observations": msgspec.json.encode(said).decode()})
    record = await api.json("/calls/req_1")
    assert (record["source"], record["output_tokens"]) == ("proxy", 9)
    assert [(o["source"], o["observed_at"], o["output_tokens"]) for o in record["observations"]] == [
        ("proxy", "2026-11-20T12:00:03Z", 9),
        ("cli", "2026-11-20T12:01:00Z", 1),
    ]


async def test_a_single_observation_of_cache_writes_is_told_as_coarsely_as_it_was_said(api, store):
    await insert_calls(store, [call(call_id="req_1", cache_write_5m_tokens=8, cache_split_known=False)])
    (said,) = (await api.json("/calls/req_1"))["observations"]
    assert said["cache_write_tokens"] == 8
    assert "cache_write_5m_tokens" not in said


async def test_a_call_is_found_while_an_upgrade_has_moved_it_but_the_index_lags(api, store):
    """The index of seen calls is written after the ledger, so for a moment it names the old place."""
    old = call(call_id="req_1")
    await insert_calls(store, [old])
    earlier = {
        **old,
        "version": 2,
        "occurred_at": old["occurred_at"] - timedelta(minutes=5),
        "output_tokens": 2,
    }
    await insert_rows(store, [taken_back(old), earlier])
    assert (await api.json("/calls/req_1"))["output_tokens"] == 2


@pytest.mark.parametrize("call_id", ["s1:chatcmpl-1", "a/b", "100%", "ü?#", "x' OR '1'='1", "a\\b"])
async def test_a_call_is_found_by_any_id_that_a_provider_may_issue(api, store, call_id):
    await insert_calls(store, [call(call_id=call_id)])
    assert (await api.json(f"/calls/{quote(call_id, safe='')}"))["call_id"] == call_id


async def test_a_call_of_another_organisation_is_not_found(api, store):
    await insert_calls(store, [call(org_id="org_b", call_id="req_b")])
    answer = await api.get("/calls/req_b")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await api.json("/calls/req_b", "org_b"))["org_id"] == "org_b"


async def test_a_call_is_found_by_any_id_that_it_is_known_by(api, store):
    await insert_calls(
        store,
        [
            call(call_id="req_1", output_tokens=7, sources=["cli", "otlp"]),
            call(call_id="msg_1", same_as="req_1"),
            call(call_id="x_1", same_as="msg_1"),
            call(call_id="x_2", same_as="?"),
            call(call_id="x_3", same_as="req_gone"),
        ],
    )
    for call_id in ("req_1", "msg_1", "x_1"):
        record = await api.json(f"/calls/{call_id}")
        assert (record["call_id"], record["output_tokens"], record["same_as"]) == ("req_1", 7, "")
    for nobody_saw in ("x_2", "x_3"):
        assert (await api.get(f"/calls/{nobody_saw}")).status_code == 404
    assert [c["call_id"] for c in (await api.json(f"/calls?{YEAR}"))["items"]] == ["req_1"]


@pytest.mark.parametrize("limit", [1, 2, 3, 500])
async def test_pages_of_sessions_are_ordered_by_the_last_live_call(api, store, limit):
    base = call()["occurred_at"]
    live = [
        call(
            session_id=f"s{n % 11}",
            occurred_at=base - timedelta(hours=7 * n, minutes=n * n),
            user_id=f"u{n % 3}",
        )
        for n in range(60)
    ]
    await insert_calls(store, [*live, call(session_id=""), call(session_id="theirs", org_id="org_b")])
    for n in range(0, 60, 7):
        moved = {**live[n], "occurred_at": live[n]["occurred_at"] - timedelta(days=1), "output_tokens": 5}
        live[n] = await upgrade(store, live[n], moved)
    found = [item for page in await pages(api, f"/sessions?{YEAR}", limit) for item in page]
    sessions = oracle.grouped(live, lambda c: c["session_id"])
    order = sorted(sessions, key=lambda s: (max(c["occurred_at"] for c in sessions[s]), s), reverse=True)
    assert [item["session_id"] for item in found] == order
    for item in found:
        calls = sessions[item["session_id"]]
        assert oracle.answered(item) == oracle.measures(calls)
        times = [c["occurred_at"].isoformat(timespec="milliseconds")[:23] + "Z" for c in calls]
        assert (item["first_call_at"], item["last_call_at"]) == (min(times), max(times))
        assert item["users"] == sorted({c["user_id"] for c in calls})
        assert item["sources"] == ["cli"]


async def test_sessions_count_only_what_is_inside_the_period_and_passes_the_filters(api, store):
    base = call()["occurred_at"]
    inside = call(session_id="s", occurred_at=base, model="a")
    others = [
        call(session_id="s", occurred_at=base - timedelta(hours=2)),
        call(session_id="s", occurred_at=base + timedelta(hours=2)),
        call(session_id="s", occurred_at=base, model="b"),
        call(session_id="other", occurred_at=base + timedelta(hours=2), model="a"),
    ]
    await insert_calls(store, [inside, *others])
    start, end = (quote((base + timedelta(hours=h)).isoformat()) for h in (-1, 1))
    (item,) = (await api.json(f"/sessions?from={start}&to={end}&model=a"))["items"]
    assert (item["session_id"], item["calls"], item["models"]) == ("s", 1, ["a"])


_NAMED = {
    "users": "user_id",
    "machines": "machine_id",
    "projects": "project",
    "clients": "client",
    "models": "model",
}


@pytest.mark.parametrize("narrowed", [{}, {"user_id": ["u1", "u'3"]}, {"machine_id": ["m1"]}])
async def test_sessions_of_any_period_are_what_their_calls_there_tell(api, store, narrowed):
    live = await oracle.fill(store, seed=9, zone="Europe/Berlin", size=80)
    moments = sorted(c["occurred_at"] for c in live)
    # From within one hour to within another; and with a call exactly at both ends.
    for start, end in [
        (moments[3] + timedelta(milliseconds=1), moments[-3] - timedelta(minutes=7)),
        (moments[10], moments[60]),
        (moments[40], moments[40] + timedelta(minutes=30)),
    ]:
        query = urlencode({"from": start.isoformat(), "to": end.isoformat(), **narrowed}, doseq=True)
        calls = oracle.within(live, "org_a", start, end, **narrowed)
        sessions = oracle.grouped([c for c in calls if c["session_id"]], lambda c: c["session_id"])
        items = (await api.json(f"/sessions?{query}"))["items"]
        assert {item["session_id"] for item in items} == sessions.keys()
        for item in items:
            own = sessions[item["session_id"]]
            assert oracle.answered(item) == oracle.measures(own)
            times = [c["occurred_at"].isoformat(timespec="milliseconds")[:23] + "Z" for c in own]
            assert (item["first_call_at"], item["last_call_at"]) == (min(times), max(times))
            for name, column in _NAMED.items():
                assert item[name] == sorted({c[column] for c in own} - {""})
            assert item["sources"] == sorted({source for c in own for source in c["sources"]})


async def test_partakers_of_a_session_have_any_name(api, store):
    names = ['"', "\\", "a+b", "[]", "\n\t", "käse 🧀", "x','y", "/p/ü"]
    await insert_calls(
        store, [call(session_id="s", machine_id=name, sources=["cli", "api"]) for name in names]
    )
    (item,) = (await api.json("/sessions?from=7d"))["items"]
    assert (item["machines"], item["sources"]) == (sorted(names), ["api", "cli"])


async def test_coverage_says_which_sources_saw_how_many_calls_and_names_possible_doubles(api, store):
    tokens = {"session_id": "s", "model": "m", "input_tokens": 5, "output_tokens": 7}
    twice = [
        call(**tokens, call_id="msg_1", sources=["cli"]),
        call(**tokens, call_id="req_1", sources=["otlp"]),
    ]
    distinct = [call(**{**tokens, "output_tokens": 8}, sources=["cli"]) for _ in range(2)]
    linked = call(session_id="s", model="m", output_tokens=1, sources=["cli", "proxy"], token_source="proxy")
    gone = call(session_id="s", sources=["cli"])
    await insert_calls(store, [*twice, *distinct, linked, gone])
    await upgrade(store, gone, {**gone, "sources": ["cli", "otlp"]})
    (item,) = (await api.json("/coverage?from=7d"))["items"]
    assert item["calls"] == 6
    assert item["seen_by"] == {"cli": 5, "otlp": 2, "proxy": 1, "api": 0}
    assert item["by_sources"] == [
        {"sources": ["cli"], "calls": 3},
        {"sources": ["cli", "otlp"], "calls": 1},
        {"sources": ["cli", "proxy"], "calls": 1},
        {"sources": ["otlp"], "calls": 1},
    ]
    assert item["possible_doubles"] == [{"model": "m", "output_tokens": 7, "call_ids": ["msg_1", "req_1"]}]


async def test_a_call_that_is_counted_under_another_id_is_in_no_answer(api, store):
    counted = call(call_id="req_1", session_id="s", output_tokens=5, model="m")
    alias = call(call_id="x_1", session_id="s", output_tokens=5, model="m", same_as="req_1", sources=["otlp"])
    await insert_calls(store, [counted, alias])
    assert [c["call_id"] for c in (await api.json("/calls?from=7d"))["items"]] == ["req_1"]
    (session,) = (await api.json("/sessions?from=7d"))["items"]
    assert (session["calls"], session["sources"]) == (1, ["cli"])
    by = await api.json("/usage/breakdown?from=7d&by=stop_reason")
    assert [row["calls"] for row in by["rows"]] == [1]
    assert (await api.json("/usage/summary?from=7d"))["calls"] == 1
