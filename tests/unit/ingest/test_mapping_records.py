"""Single records: what is refused, what is left out, and what a record of each client says."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tokentide_common.events import UsageEvent
from tokentide_ingest.otlp.mapped import Mapped
from tokentide_ingest.otlp.mapping import map_logs
from tokentide_ingest.otlp.telemetry import Attributes, LogRecord

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
TIME_NS = int(NOW.timestamp()) * 10**9
CLAUDE = "com.anthropic.claude_code.events"
STAMP = "2026-11-22T12:00:00.000Z"
CALL: Attributes = {
    "event.timestamp": STAMP,
    "session.id": "s1",
    "model": "claude-opus-5-5",
    "request_id": "req_1",
    "input_tokens": 3,
    "output_tokens": 5,
    "duration_ms": 2000,
}


def log(name: str, said: Attributes, *, time_ns: int = TIME_NS, scope: str = CLAUDE) -> LogRecord:
    return LogRecord({}, scope, name, time_ns, said)


def mapped(*records: LogRecord, tags: Mapping[str, str] | None = None) -> Mapped:
    return map_logs(records, NOW, tags or {})


def only(*records: LogRecord, tags: Mapping[str, str] | None = None) -> UsageEvent:
    [event] = mapped(*records, tags=tags).events
    return event


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"input_tokens": -1}, "input_tokens is negative or absurd"),
        ({"output_tokens": 2**31 + 1}, "output_tokens is negative or absurd"),
        ({"output_tokens": "secret words"}, "output_tokens is not a whole number"),
        ({"output_tokens": float("nan")}, "output_tokens is not a whole number"),
        ({"output_tokens": 1.5}, "output_tokens is not a whole number"),
        ({"output_tokens": True}, "output_tokens is not a whole number"),
        ({"cache_creation_5m_tokens": 2**31, "cache_creation_1h_tokens": 2**31}, "the cache writes together"),
        ({"request_id": "req_" + "x" * 999}, "request_id is longer than 256 characters"),
        ({"session.id": "x" * 257}, "session.id is longer than 256 characters"),
        ({"model": "m" * 257}, "model is longer than 256 characters"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused_with_a_reason_and_its_neighbours_count(
    said: Attributes, reason: str
) -> None:
    good = log("api_request", {**CALL, "request_id": "req_2"})
    found = mapped(log("api_request", CALL | said), good, log("api_request", CALL | said))
    assert [event.call_id for event in found.events] == ["req_2"]
    assert found.rejected == 2
    assert len(found.reasons) == 1
    assert found.reasons[0].startswith(reason)


@pytest.mark.parametrize(
    "time_ns",
    [0, 1, -5, 2**64, TIME_NS + 3 * 86_400 * 10**9, TIME_NS - 40 * 365 * 86_400 * 10**9],
    ids=["none", "1970", "negative", "beyond", "in three days", "forty years off"],
)
def test_a_clock_that_is_off_is_refused_for_calls_and_for_facts(time_ns: int) -> None:
    found = mapped(log("api_request", CALL, time_ns=time_ns), log("user_prompt", {}, time_ns=time_ns))
    assert (found.events, found.facts, found.rejected) == ([], [], 2)


@pytest.mark.parametrize(
    "said",
    [
        {"duration_ms": -5, "ttft_ms": "soon", "cost_usd": float("nan"), "effort": "as much as it takes"},
        {"duration_ms": 2**60, "ttft_ms": float("inf"), "cost_usd": -1.0, "speed": "two words"},
        {"cost_usd": 10**7, "duration_ms": True, "ttft_ms": ""},
        {"attempt": "many", "effort": "two words"},
        {"attempt": 0},
        {"attempt": 2**60},
        {"cost_usd": "1e999999999"},
    ],
)
def test_what_only_decorates_a_call_never_costs_the_call(said: Attributes) -> None:
    base = {key: value for key, value in CALL.items() if key != "duration_ms"}
    event = only(log("api_request", base | said))
    assert (event.input_tokens, event.output_tokens) == (3, 5)
    assert (event.duration_ms, event.ttft_ms, event.reported_cost_usd, event.effort) == (0, 0, "", "")
    assert event.retry_attempt == 0
    assert event.occurred_at == NOW


def test_a_call_begins_as_long_before_its_event_as_it_took() -> None:
    event = only(log("api_request", CALL))
    assert (event.occurred_at, event.observed_at) == (NOW - timedelta(seconds=2), NOW)


def test_numbers_count_whatever_they_are_written_as() -> None:
    said = CALL | {"input_tokens": "3", "output_tokens": 5.0, "duration_ms": "2000", "cost_usd": "0.25"}
    assert only(log("api_request", said)) == only(log("api_request", CALL | {"cost_usd": 0.25}))


def test_normal_speed_is_called_as_the_api_and_the_log_call_it() -> None:
    assert only(log("api_request", CALL | {"speed": "normal"})).speed == "standard"
    assert only(log("api_request", CALL | {"speed": "fast"})).speed == "fast"


def test_a_total_of_cache_writes_is_never_smaller_than_its_parts() -> None:
    said = CALL | {"cache_creation_tokens": 0, "cache_creation_5m_tokens": 7, "cache_creation_1h_tokens": 2}
    event = only(log("api_request", said))
    assert (event.cache_write_tokens, event.cache_write_5m_tokens, event.cache_write_1h_tokens) == (9, 7, 2)


def test_old_calls_without_an_id_are_told_apart_and_known_again() -> None:
    old = {key: value for key, value in CALL.items() if key != "request_id"}
    ids = [
        only(log("api_request", old | said)).call_id
        for said in ({}, {"output_tokens": 6}, {"model": "m"}, {"session.id": "s2"}, {"user.id": "u"})
    ]
    assert len(set(ids)) == len(ids)
    assert ids[0] == only(log("api_request", dict(old), time_ns=TIME_NS + 10**6)).call_id


@pytest.mark.parametrize("nothing", ["", "undefined", "null"])
def test_an_id_that_is_spelled_as_nothing_is_none(nothing: str) -> None:
    old = {key: value for key, value in CALL.items() if key != "request_id"}
    spelled = only(log("api_request", old | {"request_id": nothing, "session.id": nothing}))
    assert (spelled.request_id, spelled.session_id) == ("", "")
    assert spelled.call_id.startswith("x_")
    assert (
        only(log("api_request", old | {"request_id": nothing})).call_id
        == only(log("api_request", old)).call_id
    )


def test_a_refusal_adds_to_the_call_that_it_answers() -> None:
    refusal = {**CALL, "server_fallback_hop": False}
    call, refused = mapped(log("api_request", CALL), log("api_refusal", refusal)).events
    assert call.call_id == refused.call_id
    assert (refused.stop_reason, refused.status) == ("refusal", "error")
    assert mapped(log("api_refusal", refusal | {"server_fallback_hop": True})) == Mapped([], [], 0, [])


def test_given_up_after_many_attempts_is_one_failed_call() -> None:
    error = {"model": "claude-opus-5-5", "status_code": 529, "request_id": "req_9", "event.timestamp": STAMP}
    error["attempt"] = 11
    exhausted = {"model": "claude-opus-5-5", "status_code": 529, "total_attempts": 11}
    event = only(log("api_error", error), log("api_retries_exhausted", exhausted))
    assert (event.call_id, event.error_type, event.http_status) == ("req_9", "overloaded_error", 529)
    assert event.retry_attempt == 10


def test_a_request_that_never_reached_the_provider_is_a_failed_call() -> None:
    event = only(log("api_error", {"session.id": "s", "event.timestamp": STAMP, "error": "to secret.host"}))
    assert (event.status, event.error_type, event.http_status) == ("error", "connection_error", 0)
    assert "secret" not in repr(event)


def test_what_claude_code_made_up_itself_is_no_call() -> None:
    assert mapped(log("api_request", CALL | {"model": "<synthetic>"})).events == []


def test_events_of_claude_code_are_known_by_scope_or_by_name_and_no_one_elses_are() -> None:
    assert mapped(log("claude_code.api_request", CALL, scope="elsewhere")).events
    assert not mapped(log("api_request", CALL, scope="somebody.else")).events
    assert not mapped(log("toString", CALL)).events


def test_events_of_claude_code_are_known_by_service_where_the_scope_was_named_anew() -> None:
    def told(service: str, scope: str) -> int:
        return len(mapped(LogRecord({"service.name": service}, scope, "api_request", TIME_NS, CALL)).events)

    assert told("claude-code", "collector") == told("claude-code-desktop", "") == 1
    assert told("billing", CLAUDE) == 1
    assert told("billing", "collector") == 0


def test_a_gateways_user_is_an_account_and_an_installations_id_is_a_device() -> None:
    plain = only(log("api_request", CALL | {"user.id": "abc"}))
    gateway = only(log("api_request", CALL | {"user.id": "abc", "identity.source": "gateway-oidc"}))
    assert (plain.device_id, plain.account_id, plain.identity_provider) == ("abc", "", "")
    assert (gateway.device_id, gateway.account_id, gateway.identity_provider) == ("", "abc", "gateway-oidc")


def test_an_address_is_one_person_however_it_is_written() -> None:
    event = only(log("api_request", CALL | {"user.email": " Dev@Example.COM "}))
    assert event.user_email == event.user_id == "dev@example.com"


def test_configured_attributes_become_tags_within_bounds() -> None:
    said = CALL | {"stage": "prod", "long": "x" * 999, "app.entrypoint": "cli", "beta": True, "nothing": ""}
    record = LogRecord({"region": "eu"}, CLAUDE, "api_request", TIME_NS, said)
    wanted = {
        "stage": "stage",
        "long": "long",
        "region": "area",
        "beta": "beta",
        "nothing": "n",
        "x": "y" * 65,
    }
    tags = only(record, tags=wanted).tags
    assert tags == {
        "stage": "prod",
        "long": "x" * 256,
        "area": "eu",
        "beta": "true",
        "entrypoint": "cli",
    }
    many = {f"k{number}": f"t{number}" for number in range(50)}
    record = LogRecord({}, CLAUDE, "api_request", TIME_NS, CALL | dict.fromkeys(many, "v"))
    assert len(only(record, tags=many).tags) == 32


def test_a_resource_that_follows_another_speaks_for_its_own_records_only() -> None:
    records = [
        LogRecord(resource, CLAUDE, "api_request", TIME_NS, CALL | {"request_id": f"req_{number}"})
        for number, resource in enumerate([{"team.id": "a"}, {"team.id": "b"}, {}, {"project": "tide"}])
    ]
    events = mapped(*records).events
    assert [(event.team, event.project) for event in events] == [("a", ""), ("b", ""), ("", ""), ("", "tide")]


def test_repeats_of_an_event_are_one_fact_and_different_events_are_different_ones() -> None:
    said: Attributes = {"event.timestamp": STAMP, "tool_name": "Bash", "success": "true", "session.id": "s"}
    others = ({}, {"event.sequence": 1}, {"tool_use_id": "t"}, {"success": False}, {"tool_name": "Read"})
    ids = [mapped(log("tool_result", said | other)).facts[0].series_id for other in others]
    assert len(set(ids)) == len(ids)
    assert ids[0] == mapped(log("tool_result", dict(said))).facts[0].series_id


@pytest.mark.parametrize(
    ("decision", "verdict"),
    [
        ("approved", "accept"),
        ("approved_for_session", "accept"),
        ("denied", "reject"),
        ("abort", "reject"),
        ("", ""),
    ],
)
def test_codexs_decisions_are_told_in_the_words_of_all(decision: str, verdict: str) -> None:
    said: Attributes = {"tool_name": "shell", "decision": decision, "source": "User"}
    [fact] = mapped(log("codex.tool_decision", said, scope="codex_otel.log_only")).facts
    assert (fact.decision, fact.decided_by, fact.client) == (verdict, "user", "codex")


def test_a_failed_compaction_is_none() -> None:
    assert mapped(log("compaction", {"success": "false"})).facts == []


def codex_end(**said: Any) -> LogRecord:
    base = {
        "event.kind": "response.completed",
        "conversation.id": "c",
        "model": "gpt-5",
        "event.timestamp": STAMP,
    }
    return log("codex.sse_event", base | said, scope="codex_otel.log_only")


def test_codexs_input_leaves_out_what_was_cached_even_if_more_is_said_to_be_than_there_is() -> None:
    event = only(codex_end(input_token_count="10", cached_token_count="12", output_token_count="4"))
    assert (event.input_tokens, event.cache_read_tokens, event.output_tokens) == (0, 10, 4)
    event = only(codex_end(input_token_count=10, cached_token_count=3, cache_write_token_count=2))
    assert (event.input_tokens, event.cache_read_tokens, event.cache_write_tokens) == (5, 3, 2)


def test_codexs_tier_is_told_for_its_price() -> None:
    assert only(codex_end(input_token_count=1, service_tier="priority")).service_tier == "priority"
    assert only(codex_end(input_token_count=1)).service_tier == ""


def test_two_equal_answers_of_codex_at_different_times_are_two_calls() -> None:
    first = codex_end(input_token_count=1)
    second = codex_end(**{"input_token_count": 1, "event.timestamp": "2026-11-22T12:00:00.001Z"})
    assert len({event.call_id for event in mapped(first, second, first).events}) == 2


def test_codexs_refused_requests_are_failed_calls_and_its_other_requests_are_none() -> None:
    said: Attributes = {"http.response.status_code": "429", "endpoint": "/responses", "attempt": "0"}

    def request(told: Attributes) -> LogRecord:
        return log("codex.api_request", told, scope="codex_otel.log_only")

    event = only(request(said))
    assert (event.status, event.http_status, event.error_type) == ("error", 429, "http_429")
    assert mapped(request(said | {"http.response.status_code": "200"})).events == []
    assert [only(request(said | {"attempt": n})).retry_attempt for n in ("0", "3")] == [0, 3]
    assert mapped(request(said | {"endpoint": "/models"})).events == []


def gemini(name: str, **said: Any) -> LogRecord:
    base = {"session.id": "g", "event.timestamp": STAMP, "model": "gemini-3-pro"}
    return log(name, base | said, scope="gemini-cli")


@pytest.mark.parametrize(("total", "read"), [(38, 17), (35, 14), (0, 17)])
def test_what_tools_bring_into_geminis_prompt_counts_unless_the_total_says_it_did(
    total: int, read: int
) -> None:
    event = only(
        gemini(
            "gemini_cli.api_response",
            input_token_count=20,
            cached_content_token_count=6,
            tool_token_count=3,
            output_token_count=10,
            thoughts_token_count=5,
            total_token_count=total,
        )
    )
    assert (event.input_tokens, event.cache_read_tokens, event.output_tokens) == (read, 6, 15)


def test_geminis_failed_requests_are_failed_calls() -> None:
    said: dict[str, Any] = {"status_code": "503", "error.type": "ServerError", "error": "at /home/me"}
    event = only(gemini("gemini_cli.api_error", **said))
    assert (event.status, event.http_status, event.error_type) == ("error", 503, "ServerError")
    worded = only(gemini("gemini_cli.api_error", **{"error_type": "could not read /home/me"}))
    assert worded.error_type == ""


def test_geminis_details_name_a_call_only_where_they_can_know_which() -> None:
    details: Attributes = {
        "session.id": "g",
        "event.timestamp": STAMP,
        "gen_ai.request.model": "gemini-3-pro",
        "gen_ai.response.id": "abc",
        "gen_ai.usage.input_tokens": 20,
        "gen_ai.usage.output_tokens": 10,
    }
    name = "gen_ai.client.inference.operation.details"
    alias, call = mapped(
        log(name, details, scope="gemini-cli"),
        gemini("gemini_cli.api_response", input_token_count=20, output_token_count=10),
    ).events
    assert (alias.call_id, alias.same_as) == (call.call_id, "abc")
    assert (alias.session_id, alias.input_tokens) == ("", 0)
    assert mapped(log(name, details, scope="an.sdk")).events == []
    for missing in ("gen_ai.response.id", "gen_ai.usage.input_tokens"):
        part = {key: value for key, value in details.items() if key != missing}
        assert mapped(log(name, part, scope="gemini-cli")).events == []


def test_a_tool_that_geminis_user_rejected_did_not_run() -> None:
    facts = mapped(gemini("gemini_cli.tool_call", function_name="rm", decision="reject", success=False)).facts
    assert [(fact.metric, fact.tool, fact.decision) for fact in facts] == [("tool_decisions", "rm", "reject")]
