"""Points of metrics become facts: each once, told apart as the client told them apart, exact."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.activity_facts import highest
from infra.otlp_bodies import DATA_DIR, captures
from tokentide_common.activity import ActivityFact, decode_fact, encode_fact
from tokentide_ingest.otlp.decoding import decode_metrics
from tokentide_ingest.otlp.kept import KEPT
from tokentide_ingest.otlp.points import amount, map_points
from tokentide_ingest.otlp.streams import TELLING_APART
from tokentide_ingest.otlp.telemetry import Point

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
START = 1_795_300_000 * 10**9
TOTALS = json.loads((DATA_DIR / "claude-code/metric_totals.json").read_text("utf-8"))
CAPTURES = [capture for capture in captures() if capture.signal == "metrics"]
KIND = {"input": "input", "output": "output", "cacheRead": "cache_read", "cacheCreation": "cache_write"}


def points(client: str, run: str) -> list[Point]:
    """Return the points that a captured run sent."""
    return [
        point
        for capture in CAPTURES
        if (capture.client, capture.run) == (client, run)
        for point in decode_metrics(capture.body, capture.encoding, KEPT).items
    ]


def facts(said: list[Point], tags: dict[str, str] | None = None) -> list[ActivityFact]:
    mapped = map_points(said, NOW, tags or {})
    assert (mapped.rejected, mapped.reasons, mapped.events) == (0, [], [])
    return mapped.facts


def sums(said: list[ActivityFact], *fields: str) -> dict[tuple[str, ...], Decimal]:
    """Return what is counted per metric and fields: each series at its highest."""
    series: dict[str, ActivityFact] = {}
    for one in said:
        known = series.get(one.series_id)
        if known is None or Decimal(known.value) < Decimal(one.value):
            series[one.series_id] = one
    totals: dict[tuple[str, ...], Decimal] = defaultdict(Decimal)
    for one in series.values():
        totals[one.metric, *(getattr(one, field) for field in fields)] += Decimal(one.value)
    return dict(totals)


def point(metric: str = "claude_code.token.usage", value: float = 1, **fields: object) -> Point:
    given_fields = {
        "resource": {"service.name": "claude-code"},
        "scope": "com.anthropic.claude_code",
        "metric": metric,
        "unit": "",
        "temporality": "delta",
        "start_ns": START,
        "time_ns": START + 10**9,
        "value": value,
        "attributes": {"session.id": "s", "type": "input", "model": "m"},
    } | fields
    return Point(**given_fields)


@pytest.mark.parametrize("run", TOTALS)
def test_tokens_and_cost_of_every_claude_code_capture_are_its_metric_totals(run):
    said = sums(facts(points("claude-code", run)), "model", "kind")
    expected = {}
    for name, total in TOTALS[run].items():
        metric, model, kind = name.split("/")
        if metric == "claude_code.token.usage":
            expected["client_tokens", model, KIND[kind]] = total
        else:
            expected["client_cost_usd", model, ""] = total
    own = {key: value for key, value in said.items() if key[0].startswith("client_")}
    assert {k: float(round(v, 8)) for k, v in own.items()} == pytest.approx(expected, abs=2e-8)


@pytest.mark.parametrize("run", TOTALS)
def test_repeats_and_order_change_nothing(run):
    said = points("claude-code", run)
    again = said + said
    random.Random(run).shuffle(again)
    assert sums(facts(again), "model", "kind", "language") == sums(facts(said), "model", "kind", "language")


def test_what_else_a_session_did_is_counted_with_its_kinds():
    said = sums(
        facts(points("claude-code", "21-git-commit-toggles")), "kind", "tool", "decided_by", "language"
    )
    assert {key: value for key, value in said.items() if not key[0].startswith("client_")} == {
        ("sessions", "fresh", "", "", ""): 1,
        ("lines_of_code", "added", "", "", ""): 4,
        ("edit_decisions", "", "Write", "config", "Python"): 1,
        ("commits", "", "", "", ""): 1,
        ("active_time_s", "cli", "", "", ""): Decimal("1.157"),
    }


def test_a_cumulative_client_that_exports_every_second_counts_like_one_that_exports_once():
    said = sums(facts(points("claude-code", "11-cumulative-temporality")), "kind", "decision")
    assert said["sessions", "fresh", ""] == 1
    assert said["lines_of_code", "added", ""] == 5
    assert said["lines_of_code", "removed", ""] == 1
    assert said["edit_decisions", "", "accept"] == 2
    assert said["active_time_s", "cli", ""] == Decimal("7.034")


def test_every_process_of_a_resumed_session_is_counted():
    said = sums(facts(points("claude-code", "20-slash-compact")), "kind")
    assert (said["sessions", "fresh"], said["sessions", "resume"]) == (1, 2)


def test_people_and_teams_are_those_of_the_telemetry():
    (session,) = [one for one in facts(points("claude-code", "25-oauth-account")) if one.metric == "sessions"]
    assert (session.user_id, session.user_email) == ("dev@example.com", "dev@example.com")
    assert session.account_id == "11111111-1111-4111-8111-111111111111"
    assert session.session_id == "9e81d5ca-2a3b-416e-9403-742f059bbe11"
    assert session.client == "claude-code"
    (commit, *_) = facts(points("claude-code", "03-files-grpc-resattrs"))
    assert (commit.department, commit.team, commit.cost_center) == ("eng", "platform", "cc-42")
    assert {one.session_id for one in facts(points("claude-code", "09-bearer-gzip-toggles"))} == {""}


def test_gemini_tokens_keep_apart_what_came_from_the_cache_and_count_thoughts_as_output():
    said = sums(facts(points("gemini-cli", "01-prompt-http")), "kind")
    assert said == {
        ("client_tokens", "prompt"): 23643,
        ("client_tokens", "prompt_cached"): 11136,
        ("client_tokens", "output"): 88 + 36,
        ("client_tokens", "reasoning"): 36,
        ("sessions", ""): 1,
    }


def test_codex_counts_the_threads_that_it_starts_and_the_tokens_that_its_answers_took():
    said = facts(points("codex", "02-resume-protobuf"))
    counted = {("prompt",): 30_522, ("prompt_cached",): 14_720, ("output",): 267, ("reasoning",): 87}
    assert sums(said, "kind") == {
        ("sessions", ""): 2,
        **{("client_tokens", *kind): tokens for kind, tokens in counted.items()},
    }
    assert {one.model for one in said if one.metric == "client_tokens"} == {"gpt-5-codex"}
    assert sums(facts(points("codex", "02-resume-protobuf") * 2), "kind") == sums(said, "kind")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"dataPoints": 3}, "a histogram is malformed"),
        ({"aggregationTemporality": 7, "dataPoints": [{"sum": 1}]}, "neither delta nor cumulative"),
        ({"aggregationTemporality": 1, "dataPoints": [{"sum": "NaN"}]}, "not a finite number"),
        ({"aggregationTemporality": 1, "dataPoints": [{"sum": -1, "timeUnixNano": "1"}]}, "negative"),
        ({"aggregationTemporality": 1, "dataPoints": [{"timeUnixNano": "1"}]}, "no value"),
    ],
)
def test_a_histogram_that_is_no_sum_is_refused_and_others_are_not_even_looked_at(bad, reason):
    named = {"name": "codex.turn.token_usage", "histogram": bad}
    other = {"name": "codex.turn.e2e_duration_ms", "histogram": bad}
    good = {
        "aggregationTemporality": 1,
        "dataPoints": [{"sum": 5, "timeUnixNano": "1", "bucketCounts": ["1"]}],
    }
    metrics = [named, other, named | {"histogram": good}, named | {"histogram": None}]
    body = {"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}
    decoded = decode_metrics(msgspec.json.encode(body), "json", KEPT)
    assert (decoded.rejected, [point.value for point in decoded.items]) == (1, [5.0])
    assert reason in decoded.reasons[0]


@pytest.mark.parametrize("temporality", ["delta", "cumulative"])
@pytest.mark.parametrize(
    "other",
    [
        {"start_ns": START + 1},  # a process that began anew, or another one with the same attributes
        {"attributes": {"session.id": "s", "type": "input", "model": "m", "agent.name": "explore"}},
        {"attributes": {"session.id": "s", "type": "output", "model": "m"}},
        {"resource": {"service.name": "claude-code", "process.pid": 7}},
        {"scope": "another"},
    ],
    ids=str,
)
def test_counters_that_a_client_tells_apart_add_up(temporality, other):
    said = facts([point(value=5, temporality=temporality), point(value=3, temporality=temporality, **other)])
    assert highest(said) == {"client_tokens": 8}


def test_points_of_one_cumulative_run_meet_in_one_series_and_delta_points_do_not():
    later = {"time_ns": START + 60 * 10**9}
    running = facts(
        [point(value=5, temporality="cumulative"), point(value=9, temporality="cumulative", **later)]
    )
    assert highest(running) == {"client_tokens": 9}
    assert highest(facts([point(value=5), point(value=9, **later)])) == {"client_tokens": 14}


def test_what_is_configured_as_a_tag_does_not_make_another_series_of_a_running_counter():
    tagged = point(resource={"service.name": "claude-code", "host.group": "ci"})
    (before,), (after,) = facts([point()]), facts([tagged], {"host.group": "group"})
    assert after.tags == {"group": "ci"}
    assert after.series_id == before.series_id


def test_what_tells_streams_apart_is_read():
    assert set(TELLING_APART) - KEPT == set()


def test_watching_agents_starts_no_session_and_unknown_tokens_add_to_none():
    watching = point("claude_code.session.count", attributes={"start_type": "agents_view"})
    assert facts([watching, point(attributes={"type": "thinking"}), point(value=0)]) == []
    (new,) = facts([point("claude_code.session.count", attributes={"start_type": "teleport"})])
    assert new.kind == "teleport"


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": -1},
        {"value": float("nan")},
        {"value": float("inf")},
        {"value": 10**18},
        {"time_ns": 0},
        {"time_ns": 2**63},
        {"time_ns": int((NOW + timedelta(days=3)).timestamp()) * 10**9},
        {"time_ns": 1_500_000_000 * 10**9},
        {"attributes": {"type": "input", "session.id": "s" * 257}},
    ],
    ids=str,
)
def test_a_point_that_cannot_be_is_refused_and_its_neighbours_are_not(wrong):
    mapped = map_points([point(value=2), point(**wrong), point(**wrong), point("unheard.of", -1)], NOW, {})
    assert highest(mapped.facts) == {"client_tokens": 2}
    assert mapped.rejected == 2
    assert len(mapped.reasons) == 1
    assert "sss" not in mapped.reasons[0]


@given(st.integers(0, 10**15) | st.floats(0, 10**9))
def test_an_amount_is_the_nearest_billionth_and_fits_into_a_fact(value):
    (one,) = facts([point("claude_code.cost.usage", value)]) or [None]
    assert abs(Decimal(amount(value)) - Decimal(repr(value))) <= Decimal("5e-10")
    if one is not None:
        one.org_id = "o"
        assert decode_fact(encode_fact(one)) == one
        assert msgspec.json.decode(encode_fact(one))["value"] == amount(value)
