"""`tokentide mcp`: the tools as a client of the protocol sees them, over a stub of the query API."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from infra.query_stub import KEY, QueryStub
from tokentide.connection import Connection
from tokentide.failures import Exit
from tokentide.mcp_server import server
from tokentide.mcp_tools import small

from .conftest import Run

SUMMARY = {"calls": 3, "errors": 0, "cost_usd": "1.25", "reported_cost_usd": "0", "users": 1}
POINT = {"start": "2026-11-20T00:00:00+01:00", "calls": 2, "cost_usd": "1"}
ANSWERS: dict[str, Any] = {
    "summary": SUMMARY,
    "timeseries": {"tz": "UTC", "series": [{"points": [POINT, {**POINT, "calls": 0}]}]},
    "breakdown": {"by": ["project"], "rows": [{"key": {"project": f"p{n}"}, "calls": 1} for n in range(50)]},
    "blocks": {"accounts": [{"account": "a", "active": {"calls": 1}, "week": {"calls": 2}, "blocks": [{}]}]},
    "limits": {"items": [{"kind": "unified_5h", "utilization": "0.42"}]},
    "compare": {"rows": []},
    "days": {"days": []},
    "reports": {"items": [{"name": "pace", "title": "Pace", "columns": ["x"], "path": "/p"}]},
    "plan-savings": {"rows": [{"user": "ann", "saving_usd": "80"}]},
    "pace": {"rows": [{"trend": "rising"}]},
}
TOOLS = {
    *("usage_summary", "daily_usage", "weekly_usage", "active_blocks", "limits", "machines", "projects"),
    *("compare", "coverage", "list_reports", "plan_savings", "report"),
}


@pytest.fixture
def stub(query_stub: QueryStub) -> QueryStub:
    query_stub.answers = dict(ANSWERS)
    return query_stub


def said(result: Any) -> Any:
    assert not result.is_error, result.content
    return json.loads(result.content[0].text)


async def test_every_tool_only_reads_and_answers(stub: QueryStub) -> None:
    async with Client(server(lambda: Connection(stub.url, KEY), "Europe/Berlin")) as client:
        tools = (await client.list_tools()).tools
        assert {tool.name for tool in tools} == TOOLS
        assert all(tool.description and tool.annotations.read_only_hint for tool in tools)
        for name in sorted(TOOLS - {"report"}):
            said(await client.call_tool(name, {}))
        assert said(await client.call_tool("report", {"name": "pace"})) == {"rows": [{"trend": "rising"}]}
        assert said(await client.call_tool("usage_summary", {"period": "2026-11-01..2026-11-22"})) == {
            "calls": 3,
            "cost_usd": "1.25",
            "users": 1,
        }
    assert stub.asked[-1] == (
        "summary",
        {"from": ["2026-11-01"], "to": ["2026-11-22"], "tz": ["Europe/Berlin"]},
    )


async def test_answers_are_small_and_say_what_was_left_out(stub: QueryStub) -> None:
    async with Client(server(lambda: Connection(stub.url, KEY), "")) as client:
        projects = said(await client.call_tool("projects", {}))
        assert (len(projects["rows"]), projects["rows_left_out"]) == (20, 30)
        assert said(await client.call_tool("daily_usage", {}))["points"] == [POINT]
        assert said(await client.call_tool("active_blocks", {})) == {
            "accounts": [{"account": "a", "active": {"calls": 1}, "week": {"calls": 2}}]
        }
    large = small({"rows": [{"text": "x" * 3000} for _ in range(40)]})
    assert len(json.dumps(large)) < 20_000
    assert large["rows_left_out"] == 40 - len(large["rows"])


def test_zero_is_left_out_and_what_is_unknown_is_not() -> None:
    answer = {"calls": 0, "cost_usd": "0", "p95": None, "rows": [{"cost_usd": None, "errors": 0}]}
    assert small(answer) == {"p95": None, "rows": [{"cost_usd": None}]}


async def test_what_the_server_refuses_is_an_error_in_its_words_and_never_the_key(stub: QueryStub) -> None:
    stub.problem = (403, {"detail": "viewers see aggregates only", "code": "aggregates_only"})
    async with Client(server(lambda: Connection(stub.url, KEY), "")) as client:
        result = await client.call_tool("machines", {})
    assert result.is_error
    assert "viewers see aggregates only" in result.content[0].text
    assert KEY not in result.content[0].text


async def test_a_name_is_no_path(stub: QueryStub) -> None:
    stub.problem = (404, {"detail": "no such route"})
    async with Client(server(lambda: Connection(stub.url, KEY), "")) as client:
        assert (await client.call_tool("report", {"name": "../usage/summary"})).is_error
    assert stub.asked[-1][0] == "..%2Fusage%2Fsummary"


async def test_it_speaks_over_standard_input_and_output(stub: QueryStub) -> None:
    own = {"TOKENTIDE_QUERY_URL": stub.url, "TOKENTIDE_KEY": KEY}
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "tokentide", "mcp"], env={**os.environ, **own}
    )
    async with Client(command) as client:
        assert said(await client.call_tool("usage_summary", {}))["calls"] == 3


def test_without_the_package_it_says_how_to_install_it(
    tokentide: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokentide.commands.find_spec", lambda _: None)
    ended = tokentide("mcp")
    assert (ended.code, "cli[mcp]" in ended.err) == (Exit.FAILED, True)
