"""`GET /api/v1/export/calls`: the same calls as the list has, in each format, for whoever may see them."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import msgspec
import pyarrow.parquet as pq
import pytest

from infra import query_oracle as oracle
from infra.ledger_rows import call, insert_calls, upgrade
from infra.query_client import Caller, query_api
from tokentide_query_api.export import route

YEAR = "from=2026-01-01&to=2026-12-01"


@pytest.fixture
async def api(store, tmp_path, monkeypatch):
    # Small slices, that cut through the states of calls.
    monkeypatch.setattr(route, "_SLICE", 7)
    await oracle.fill(store, seed=5, zone="Europe/Berlin", size=60)
    async with query_api(store, tmp_path) as caller:
        yield caller


async def listed(api: Caller, query: str) -> list[dict[str, Any]]:
    """Return what the list of calls has, page by page."""
    items: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = await api.json(f"/calls?{query}&limit=500{cursor}")
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        cursor = f"&cursor={quote(page['next_cursor'])}"


async def test_every_format_has_every_live_call_once(api: Caller):
    calls = await listed(api, YEAR)
    assert len(calls) > 20
    plain = await api.get(f"/export/calls?{YEAR}")
    assert plain.headers["content-type"].startswith("application/x-ndjson")
    assert [msgspec.json.decode(line) for line in plain.content.splitlines()] == calls
    text = (await api.get(f"/export/calls?{YEAR}&format=csv")).content.decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["call_id"] for row in rows] == [call["call_id"] for call in calls]
    assert [row["cost_usd"] for row in rows] == [call["cost_usd"] for call in calls]
    first, again = [(await api.get(f"/export/calls?{YEAR}&format=parquet")).content for _ in range(2)]
    table = pq.read_table(io.BytesIO(first)).to_pylist()
    assert [row["call_id"] for row in table] == [call["call_id"] for call in calls]
    assert first == again, "the same calls are the same bytes"


async def test_filters_and_organisations_hold(api: Caller):
    for org in ("org_a", "org_b"):
        lines = (await api.get(f"/export/calls?{YEAR}&model=m1", org)).content.splitlines()
        assert {msgspec.json.decode(line)["org_id"] for line in lines} <= {org}
    member = await api.ask("GET", f"/export/calls?{YEAR}", "member")
    assert (member.status_code, member.content) == (200, b"")
    viewer = await api.ask("GET", f"/export/calls?{YEAR}", "viewer")
    assert (viewer.status_code, viewer.json()["code"]) == (403, "aggregates_only")


async def test_nothing_is_an_empty_file(api: Caller):
    empty = "from=2020-01-01&to=2020-01-02"
    assert (await api.get(f"/export/calls?{empty}")).content == b""
    assert (await api.get(f"/export/calls?{empty}&format=csv")).content.count(b"\n") == 1
    parquet = (await api.get(f"/export/calls?{empty}&format=parquet")).content
    assert pq.read_table(io.BytesIO(parquet)).num_rows == 0


@pytest.mark.parametrize("mistake", ["format=json", "limit=5", "from=never"])
async def test_a_mistake_is_a_problem_and_no_file(api: Caller, mistake: str):
    answer = await api.get(f"/export/calls?{mistake}")
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("application/problem+json")


async def test_a_fingerprint_changes_with_any_field_of_any_call_and_with_nothing_else(store, tmp_path):
    at = datetime(2026, 11, 20, 9, tzinfo=UTC)
    first, other = (call(occurred_at=at + timedelta(hours=n), user_id="ann") for n in range(2))
    await insert_calls(store, [first, other])
    days = "/export/partitions?from=2026-11-20&to=2026-11-21"
    async with query_api(store, tmp_path) as api:

        async def told() -> tuple[int, str]:
            found, empty = (await api.json(days))["partitions"]
            assert (empty["calls"], empty["fingerprint"]) == (0, "")
            return found["calls"], found["fingerprint"]

        seen = [await told()]
        corrections: list[dict[str, Any]] = [
            {"project": "shop"}, {"user_id": "bob"}, {"tags": {"a": "b"}}, {"sources": ["cli", "otlp"]},
            {"session_started_at": at},
        ]  # fmt: skip
        for correction in corrections:
            first = await upgrade(store, first, {**first, **correction})
            seen.append(await told())
        assert [calls for calls, _ in seen] == [2] * 6
        assert len(set(seen)) == 6
        back = {name: other.get(name) for correction in corrections for name in correction}
        await upgrade(store, first, {**first, **back})
        assert await told() == seen[0]
        hours = (await api.json(days + "&bucket=hour"))["partitions"]
    assert [hour["start"][11:13] for hour in hours if hour["calls"]] == ["09", "10"]
