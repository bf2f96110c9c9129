"""All routes of the query API tell one story, and it is the story of the manifests."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from infra import manifests
from infra.embedded import COMMAND, PERIOD, Caller, Embedded, Keys, Machine, environment
from infra.manifests import RUNS, session_dir
from infra.process import bound_to_us
from infra.waiting import until

FORKS = "06-fork-session"
COUNTS = (
    *("calls", "errors", "input_tokens", "cache_read_tokens", "cache_write_5m_tokens"),
    *("cache_write_1h_tokens", "output_tokens", "reasoning_tokens", "total_tokens"),
    *("web_search_requests", "unpriced_calls"),
)
MONEY = ("cost_usd", "reported_cost_usd")


@pytest.fixture(scope="module")
def keys(system: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """An organisation whose laptop has pushed every capture."""
    made = system.organization()
    laptop = Machine(tmp_path_factory.mktemp("home") / "laptop", system, made)
    assert laptop.push(*map(session_dir, RUNS)).code == 0
    return made


@pytest.fixture(scope="module")
def caller(system: Embedded, keys: Keys) -> Caller:
    return system.caller(keys)


def added(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The measures of all rows together."""
    total: dict[str, Any] = dict.fromkeys(COUNTS, 0) | dict.fromkeys(MONEY, Decimal(0))
    for row in rows:
        for name in COUNTS:
            total[name] += row[name]
        for name in MONEY:
            total[name] += Decimal(row[name])
    return total


def measures(call: dict[str, Any]) -> dict[str, Any]:
    """A call record as the measures of one call."""
    tokens = {name: call[name] for name in COUNTS if name in call}
    disjoint = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")
    return tokens | {
        "calls": 1,
        "errors": int(call["status"] != "ok"),
        "total_tokens": sum(call[name] for name in disjoint),
        "unpriced_calls": int(call["unpriced"]),
        **{name: call[name] for name in MONEY},
    }


def test_calls_sessions_and_parts_add_up_to_the_summary(caller: Caller) -> None:
    summary = added([caller.summary()])
    calls = caller.items("calls", limit=7)
    assert added(map(measures, calls)) == summary
    assert added(caller.items("sessions", limit=7)) == summary
    for dimension in ("model", "project", "session_id", "machine_id", "user_id", "client"):
        assert added(caller.by(dimension).values()) == summary
    days = caller.ask(
        "usage/timeseries", bucket="day", tz="Asia/Kathmandu", **{"from": "2026-11-01", "to": "2026-11-30"}
    )
    assert added(point for series in days["series"] for point in series["points"]) == summary


def test_distinct_counts_and_the_cache_hit_ratio_are_those_of_the_calls(caller: Caller) -> None:
    summary, calls = caller.summary(), caller.items("calls")
    for name, field in (
        ("users", "user_id"),
        ("sessions", "session_id"),
        ("machines", "machine_id"),
        ("projects", "project"),
    ):
        assert summary[name] == len({call[field] for call in calls}), name
    read = summary["cache_read_tokens"]
    whole = (
        summary["input_tokens"] + read + summary["cache_write_5m_tokens"] + summary["cache_write_1h_tokens"]
    )
    assert summary["cache_hit_ratio"] == pytest.approx(read / whole, abs=1e-6)


def test_a_single_call_is_the_listed_one_with_what_its_source_said(caller: Caller) -> None:
    for call in caller.items("calls"):
        record = caller.ask(f"calls/{quote(call['call_id'], safe='')}")
        (said,) = record.pop("observations")
        assert record == call
        assert (call["sources"], said["source"]) == (["cli"], "cli")
        told = {name for name in COUNTS if name in said}
        assert {name: said[name] for name in told} == {name: call[name] for name in told}
        assert said["output_tokens"] == call["output_tokens"]
        assert call["price_version"].startswith("genai-prices ")


def test_each_session_is_made_of_its_calls(caller: Caller) -> None:
    calls: dict[str, list[Any]] = defaultdict(list)
    for call in caller.items("calls"):
        calls[call["session_id"]].append(call)
    sessions = {session["session_id"]: session for session in caller.items("sessions")}
    covered = {session["session_id"]: session for session in caller.items("coverage")}
    assert sessions.keys() == covered.keys() == calls.keys()
    for session_id, own in calls.items():
        session, coverage = sessions[session_id], covered[session_id]
        assert added([session]) == added(map(measures, own))
        assert session["models"] == sorted({call["model"] for call in own})
        assert session["projects"] == sorted({call["project"] for call in own})
        assert session["first_call_at"] == min(call["occurred_at"] for call in own)
        assert session["last_call_at"] == max(call["occurred_at"] for call in own)
        assert coverage["calls"] == len(own)
        assert coverage["seen_by"] == {"cli": len(own), "otlp": 0, "proxy": 0, "api": 0}
        assert coverage["by_sources"] == [{"sources": ["cli"], "calls": len(own)}]
        # One source that names every call by the provider's id sees none twice.
        assert coverage["possible_doubles"] == []


def test_calls_of_forked_sessions_belong_to_the_session_that_made_them(caller: Caller) -> None:
    made_by = {r["request_id"]: r["session_header"] for r in manifests.manifest(FORKS)["upstream_requests"]}
    calls = caller.items("calls", project=FORKS)
    assert {call["call_id"]: call["session_id"] for call in calls} == made_by
    assert len({session["session_id"] for session in caller.items("sessions", project=FORKS)}) == 3


@pytest.mark.parametrize(
    ("scope", "dimension"),
    [("users", "user_id"), ("models", "model"), ("projects", "project"), ("machines", "machine_id")],
)
async def test_rankings_rank_what_the_breakdown_counts(scope: str, dimension: str, caller: Caller) -> None:
    for metric, measure in (("cost", "cost_usd"), ("tokens", "total_tokens"), ("calls", "calls")):
        expected = {entity: Decimal(row[measure]) for entity, row in caller.by(dimension).items()}

        def ranked(metric: str = metric) -> dict[str, Decimal]:
            question = {"period": "month", "at": "2026-11-22", "scope": scope, "metric": metric}
            items = caller.ask("rankings", **question, limit=500)["items"]
            assert [item["rank"] for item in items] == sorted(item["rank"] for item in items)
            return {item["entity"]: Decimal(item["value"]) for item in items}

        # Rankings follow the calls within a moment.
        await until(
            lambda ranked=ranked, expected=expected: ranked() == expected,
            within_s=60,
            what=f"{scope} by {metric}",
        )


def test_stats_shows_what_the_query_api_answers(system: Embedded, keys: Keys, caller: Caller) -> None:
    settings = {"TOKENTIDE_KEY": keys.api_key, "TOKENTIDE_QUERY_URL": system.ready["query"]}
    told = subprocess.run(
        [COMMAND, "stats", "2026-11-01..2026-11-30", "--tz", "UTC", "--json"],
        env=environment(system.data_dir, **settings),
        capture_output=True,
        text=True,
        check=True,
    )
    answers = json.loads(told.stdout)
    assert answers["summary"] == caller.summary(tz="UTC")
    by_model = {row["key"]["model"]: row for row in answers["breakdown"]["rows"]}
    assert by_model == caller.by("model", tz="UTC", metric="cost_usd")


def test_the_dashboard_of_the_how_to_shows_what_was_pushed(
    system: Embedded, keys: Keys, caller: Caller, tmp_path: Path
) -> None:
    guide = Path(__file__).parents[2] / "docs/how-to/build-a-dashboard.md"
    program = guide.read_text("utf-8").partition("```python\n")[2].partition("```")[0]
    assert len(program.splitlines()) <= 30
    (tmp_path / "dashboard.py").write_text(program, "utf-8")
    settings = {"TOKENTIDE_KEY": keys.api_key, "TOKENTIDE_QUERY_URL": system.ready["query"]}
    command = bound_to_us([sys.executable, "-I", str(tmp_path / "dashboard.py"), "0"])
    dashboard = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(tmp_path, **settings),
    )
    try:
        assert dashboard.stdout is not None
        with httpx.Client(
            base_url=dashboard.stdout.readline().strip(), timeout=60, trust_env=False
        ) as browser:
            page = browser.get("/", params=PERIOD).text
            refused = browser.get("/", params={"colour": "red"})
    finally:
        dashboard.kill()
        dashboard.communicate()
    days = caller.ask("usage/timeseries", **PERIOD)["series"][0]["points"]
    rows = [caller.summary(), *days, *caller.by("model").values()]
    told = re.findall(r"max=\S+></progress> \$(\S+), (\d+) calls", page)
    assert told == [(row["cost_usd"], str(row["calls"])) for row in rows]
    truth = [totals for run in RUNS for totals in manifests.truth_for_log(run).values()]
    assert told[0][1] == str(sum(totals.calls for totals in truth))
    assert (refused.status_code, "colour" in refused.text, keys.api_key in page) == (400, True, False)


def test_another_organisation_sees_none_of_it(system: Embedded, caller: Caller) -> None:
    other = system.caller(system.organization())
    assert other.summary()["calls"] == 0
    assert other.items("calls") == other.items("sessions") == other.items("coverage") == []
    known = caller.items("calls")[0]["call_id"]
    assert other.client.get(f"/api/v1/calls/{known}").status_code == 404
