"""What real clients sent over OTLP amounts to exactly what the server that answered them has on record."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from infra.manifests import RUNS, manifest
from infra.otlp_bodies import DATA_DIR, DECODE, captures
from tokentide_common.activity import ActivityFact, decode_fact, encode_fact
from tokentide_common.events import UsageEvent, decode_wire_event, encode_event
from tokentide_common.merge import State, add, canonical, merged
from tokentide_ingest.otlp.kept import KEPT
from tokentide_ingest.otlp.mapped import Mapped
from tokentide_ingest.otlp.mapping import map_logs, map_spans
from tokentide_ingest.otlp.telemetry import LogRecord, Span

NOW = datetime(2026, 11, 23, tzinfo=UTC)
TAGS = {"os.type": "os"}
BUCKETS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")
# Requests without a log event, by what the server has of them. Each is in a run of its own.
UNTOLD = {
    "07-overload-529": 2,  # answered 529, tried again with success: the client says nothing of them
    "15-killed-midstream": 1,  # the client was killed before it could say anything
    "16-cut-stream-retry": 1,  # the stream broke: only the second attempt is told
    "19-bad-request-400": 5,  # one event for six attempts, with the id of the last
}


def told(client: str, run: str, *, traces: bool = True) -> Mapped:
    whole = Mapped([], [], 0, [])
    for capture in captures():
        if (capture.client, capture.run) == (client, run) and capture.signal != "metrics":
            if capture.signal == "traces" and not traces:
                continue
            decoded = DECODE[capture.signal](capture.body, capture.encoding, KEPT.union(TAGS))
            mapped = (map_logs if capture.signal == "logs" else map_spans)(decoded.items, NOW, TAGS)
            whole.events += mapped.events
            whole.facts += mapped.facts
            whole.rejected += mapped.rejected
    return whole


def calls(events: Iterable[UsageEvent]) -> dict[str, UsageEvent]:
    """Join events into calls as the aggregator does."""
    states: dict[str, State] = defaultdict(dict)
    same = {event.call_id: event.same_as for event in events if event.same_as}
    for event in events:
        call_id = same.get(event.call_id, event.call_id)
        seen = event.observed_at or NOW  # the door's stamp
        observation = msgspec.structs.replace(event, call_id=call_id, observed_at=seen)
        states[call_id] = add(states[call_id], canonical(observation))
    return {call_id: merged(state)[0] for call_id, state in states.items()}


def totals(found: Iterable[UsageEvent]) -> dict[str, Counter[str]]:
    by_model: dict[str, Counter[str]] = defaultdict(Counter)
    for call in found:
        if call.status == "ok":
            by_model[call.model]["calls"] += 1
            for bucket in (*BUCKETS, "reasoning_tokens"):
                by_model[call.model][bucket] += getattr(call, bucket)
    return {model: +counted for model, counted in by_model.items()}


def claude_truth(run: str) -> dict[str, Counter[str]]:
    return {
        model: +Counter(
            calls=said["requests"],
            input_tokens=said["input_tokens"],
            cache_read_tokens=said["cache_read_input_tokens"],
            cache_write_tokens=said["cache_creation_input_tokens"],
            output_tokens=said["output_tokens"],
        )
        for model, said in manifest(run)["totals_by_model_completed"].items()
    }


def requests_of(client: str, run: str) -> list[dict[str, Any]]:
    account = json.loads((DATA_DIR / client / run / "manifest.json").read_text())
    return [request for request in account["upstream_requests"] if request.get("usage")]


@pytest.mark.parametrize("run", RUNS)
def test_claude_codes_telemetry_alone_gives_the_exact_totals_of_each_model(run: str) -> None:
    mapped = told("claude-code", run)
    assert mapped.rejected == 0
    assert totals(calls(mapped.events).values()) == claude_truth(run)


@pytest.mark.parametrize("run", RUNS)
def test_what_claude_codes_telemetry_does_not_tell_is_known_request_by_request(run: str) -> None:
    found = {call.request_id for call in calls(told("claude-code", run).events).values()}
    requests = manifest(run)["upstream_requests"]
    untold = [request for request in requests if request["request_id"] not in found]
    if run == "24-old-1.0.128-slow":
        # Old versions tell every request, but not its id.
        assert found == {""}
        return
    assert len(untold) == UNTOLD.get(run, 0)
    assert not any(request.get("completed") for request in untold)


@pytest.mark.parametrize("run", RUNS)
def test_a_claude_code_call_is_the_request_that_the_server_answered(run: str) -> None:
    truth = {request["request_id"]: request for request in manifest(run)["upstream_requests"]}
    for call in calls(told("claude-code", run).events).values():
        if not call.request_id:
            continue
        request = truth[call.request_id]
        assert (call.call_id, call.model) == (call.request_id, request["model"])
        assert call.provider == "anthropic"
        # From the request to its answer, give or take what lies between the two clocks' readings.
        assert abs(call.occurred_at.timestamp() - request["t"]) < 0.25
        if request["usage"] and request["completed"]:
            split = request["usage"]["cache_creation"]
            assert call.cache_write_5m_tokens == split["ephemeral_5m_input_tokens"]
            assert call.cache_write_1h_tokens == split["ephemeral_1h_input_tokens"]
            assert 0 < call.ttft_ms <= call.duration_ms


@pytest.mark.parametrize("run", RUNS)
def test_sent_twice_and_in_the_other_order_it_is_the_same(run: str) -> None:
    once, again = told("claude-code", run), told("claude-code", run)
    assert calls([*reversed(again.events), *once.events]) == calls(once.events)
    assert {f.series_id for f in again.facts} == {f.series_id for f in once.facts}
    assert len({f.series_id for f in once.facts}) == len(once.facts)


@pytest.mark.parametrize("capture", sorted({(c.client, c.run) for c in captures()}))
def test_everything_fits_the_wire(capture: tuple[str, str]) -> None:
    mapped = told(*capture)
    assert [decode_wire_event(encode_event(event)) for event in mapped.events] == mapped.events
    assert [decode_fact(encode_fact(fact)) for fact in mapped.facts] == mapped.facts


def test_an_opened_trace_adds_to_a_call_and_counts_nothing_twice() -> None:
    run = "14-traces-tooldetails"
    with_spans = calls(told("claude-code", run).events)
    without = calls(told("claude-code", run, traces=False).events)
    assert totals(with_spans.values()) == totals(without.values()) == claude_truth(run)
    assert {call.stop_reason for call in with_spans.values()} == {"tool_use", "end_turn"}
    for call_id, call in without.items():
        assert with_spans[call_id].prompt_id == call.prompt_id != ""


def test_a_failed_request_is_a_failed_call_and_its_message_is_not_kept() -> None:
    [call] = calls(told("claude-code", "19-bad-request-400").events).values()
    assert (call.status, call.http_status, call.error_type) == ("error", 400, "invalid_request_error")
    assert call.call_id == manifest("19-bad-request-400")["upstream_requests"][-1]["request_id"]
    assert "scripted" not in repr(call)


def test_requests_that_the_log_never_shows_are_told_with_their_purpose() -> None:
    found = calls(told("claude-code", "20-slash-compact").events).values()
    assert Counter(call.query_source for call in found) == {"sdk": 3, "compact": 2}
    subagents = calls(told("claude-code", "05-subagent").events).values()
    assert Counter((call.agent, call.is_sidechain) for call in subagents) == {
        ("general-purpose", True): 2,
        ("", False): 3,
    }


def test_the_people_and_teams_of_a_call_are_named() -> None:
    for call in told("claude-code", "25-oauth-account").events:
        assert call.user_email == call.user_id == "dev@example.com"
        assert call.account_id == "11111111-1111-4111-8111-111111111111"
        assert len(call.device_id) == 64
        assert call.org_id == ""
        assert call.tags == {"os": "linux"}
    for call in told("claude-code", "03-files-grpc-resattrs").events:
        assert (call.department, call.team, call.cost_center) == ("eng", "platform", "cc-42")
    assert all(call.session_id == "" for call in told("claude-code", "09-bearer-gzip-toggles").events)


def test_a_clients_own_price_is_kept_without_the_noise_of_binary_fractions() -> None:
    prices = [call.reported_cost_usd for call in told("claude-code", "25-oauth-account").events]
    assert prices == ["0.0056788", "0.0059202"]
    old = [call.reported_cost_usd for call in told("claude-code", "24-old-1.0.128-slow").events]
    assert old == ["0.02981865", "0.00050968", "0.0005896", "0.01080075"]


def activity(facts: Iterable[ActivityFact]) -> Counter[tuple[str, ...]]:
    counted: Counter[tuple[str, ...]] = Counter()
    for fact in facts:
        what = tuple(word for word in (fact.kind, fact.tool, fact.decision, fact.decided_by) if word)
        counted[(fact.metric, *what)] += int(fact.value)
    return counted


def test_what_was_done_is_counted_from_events() -> None:
    assert activity(told("claude-code", "20-slash-compact").facts) == {
        ("prompts",): 3,
        ("prompt_characters",): 31 + 8 + 30,
        ("tool_decisions", "Bash", "accept", "config"): 1,
        ("tool_results", "Bash", "ok"): 1,
        ("compactions", "manual"): 1,
    }
    assert activity(told("claude-code", "24-old-1.0.128-slow").facts) == {
        ("prompts",): 1,
        ("prompt_characters",): 51,
        ("tool_results", "Bash", "ok"): 2,
    }
    assert activity(told("codex", "01-exec-json").facts) == {
        ("prompts",): 1,
        ("prompt_characters",): 25,
        ("tool_decisions", "exec_command", "accept", "config"): 1,
        ("tool_results", "exec_command", "ok"): 1,
    }
    assert activity(told("gemini-cli", "01-prompt-http").facts) == {
        ("prompts",): 1,
        ("prompt_characters",): 26,
        ("tool_decisions", "run_shell_command", "accept"): 1,
        ("tool_results", "run_shell_command", "ok"): 1,
    }


@pytest.mark.parametrize("run", ["01-exec-json", "02-resume-protobuf"])
def test_codex_tells_each_answer_once_with_its_exact_tokens(run: str) -> None:
    truth = Counter[str]()
    for request in requests_of("codex", run):
        usage = request["usage"]
        cached = usage["input_tokens_details"]["cached_tokens"]
        truth += Counter(
            calls=1,
            input_tokens=usage["input_tokens"] - cached,
            cache_read_tokens=cached,
            output_tokens=usage["output_tokens"],
            reasoning_tokens=usage["output_tokens_details"]["reasoning_tokens"],
        )
    found = calls(told("codex", run).events).values()
    assert totals(found) == {"gpt-5-codex": truth}
    assert {call.session_id for call in found} == {requests_of("codex", run)[0]["session_header"]}
    assert {(call.provider, call.client) for call in found} == {("openai", "codex")}


def test_gemini_cli_tells_each_answer_once_under_the_providers_id_of_it() -> None:
    requests = {request["response_id"]: request for request in requests_of("gemini-cli", "01-prompt-http")}
    found = calls(told("gemini-cli", "01-prompt-http").events)
    assert found.keys() == requests.keys()
    for call_id, call in found.items():
        usage = requests[call_id]["usage"]
        cached = usage["cachedContentTokenCount"]
        assert (call.input_tokens, call.cache_read_tokens) == (usage["promptTokenCount"] - cached, cached)
        assert call.output_tokens == usage["candidatesTokenCount"] + usage["thoughtsTokenCount"]
        assert call.reasoning_tokens == usage["thoughtsTokenCount"]
        assert (call.provider, call.model, call.http_status) == ("google", "gemini-2.5-pro", 200)
        assert call.device_id
        assert call.session_id


def test_opencodes_log_records_hold_no_call() -> None:
    assert told("opencode", "01-anthropic") == Mapped([], [], 0, [])


def test_no_prompt_answer_tool_input_or_path_is_in_anything_that_is_mapped() -> None:
    """With every content flag on; read from the records themselves, even without the decoder's allow-list."""
    content = [
        *("hello-from-fixture", "[[", "greeting", "epsilon", "echo", "Bad request", "Chunk ID"),
        *("REDACTED", "/home", "workspace", "full_command", "tool_input", "arguments"),
    ]
    for capture in captures():
        if capture.signal == "metrics":
            continue
        everything = _with_every_attribute(capture.signal, capture.body, capture.encoding)
        mapped = (map_logs if capture.signal == "logs" else map_spans)(everything, NOW, {})
        said = b"\n".join([*map(encode_event, mapped.events), *map(encode_fact, mapped.facts)]).decode()
        assert [word for word in content if word in said] == [], str(capture)


class _Everything(frozenset[str]):
    """An allow-list on which everything is."""

    def __contains__(self, key: object) -> bool:
        return True


def _with_every_attribute(signal: str, body: bytes, encoding: str) -> list[LogRecord] | list[Span]:
    return DECODE[signal](body, encoding, _Everything()).items


def test_every_attribute_that_is_read_is_on_the_allow_list() -> None:
    dropped = 0
    for capture in captures():
        if capture.signal == "metrics":
            continue
        mapping = map_logs if capture.signal == "logs" else map_spans
        kept = DECODE[capture.signal](capture.body, capture.encoding, KEPT).items
        everything = _with_every_attribute(capture.signal, capture.body, capture.encoding)
        assert mapping(kept, NOW, {}) == mapping(everything, NOW, {}), str(capture)
        dropped += sum(len(item.attributes) for item in everything) - sum(len(i.attributes) for i in kept)
    assert dropped > 1000
