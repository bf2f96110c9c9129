"""Spans of any SDK: OpenTelemetry's conventions for generative AI, as they are and as they were."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tokentide_common.events import UsageEvent
from tokentide_ingest.otlp.mapped import Mapped
from tokentide_ingest.otlp.mapping import map_spans
from tokentide_ingest.otlp.telemetry import Attributes, Span

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
START_NS = int(NOW.timestamp()) * 10**9
CHAT: Attributes = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5",
    "gen_ai.response.model": "gpt-5-2026-10-01",
    "gen_ai.response.id": "resp_1",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 40,
}
LONG_ID = "chatcmpl-CfRq2mZyN0bE7hVv5tKxLw1s"


def span(said: Attributes, *, failed: bool = False, service: str = "helpdesk", number: int = 1) -> Span:
    return Span(
        resource={"service.name": service, "team.id": "support"},
        scope="an.sdk",
        name="chat gpt-5",
        span_id=f"{number:016x}",
        trace_id=f"{number:032x}",
        start_ns=START_NS,
        end_ns=START_NS + 1_500_000_000,
        failed=failed,
        attributes=said,
    )


def mapped(*spans: Span) -> Mapped:
    return map_spans(spans, NOW, {})


def only(said: Attributes, **kwargs: Any) -> UsageEvent:
    [event] = mapped(span(said, **kwargs)).events
    return event


def without(said: Attributes, *keys: str) -> Attributes:
    return {key: value for key, value in said.items() if key not in keys}


def test_the_parts_of_the_tokens_are_read_as_the_ai_sdk_names_them() -> None:
    said = {
        "gen_ai.system": "anthropic",
        "gen_ai.request.model": "claude-sonnet-4-5",
        "gen_ai.response.id": "msg_01",
        "gen_ai.usage.input_tokens": 682,
        "gen_ai.usage.output_tokens": 102,
        "ai.usage.inputTokens": 682,
        "ai.usage.inputTokenDetails.noCacheTokens": 26,
        "ai.usage.inputTokenDetails.cacheReadTokens": 407,
        "ai.usage.inputTokenDetails.cacheWriteTokens": 249,
        "ai.usage.outputTokenDetails.reasoningTokens": 7,
        "ai.usage.cachedInputTokens": 407,
        "ai.response.msToFirstChunk": 521.375,
    }
    event = only(said)
    assert (event.input_tokens, event.cache_read_tokens, event.cache_write_tokens) == (26, 407, 249)
    assert (event.output_tokens, event.reasoning_tokens, event.ttft_ms) == (102, 7, 521)
    assert event.message_id == event.call_id == "msg_01"
    older = without(said, *(key for key in said if "Details" in key)) | {"ai.usage.reasoningTokens": 5}
    event = only(older)
    assert (event.input_tokens, event.cache_read_tokens, event.reasoning_tokens) == (275, 407, 5)


def test_an_id_that_the_ai_sdk_made_up_is_no_id_of_an_answer() -> None:
    first, second = (only(CHAT | {"gen_ai.response.id": "aitxt-d7v2El1A"}, number=n) for n in (1, 2))
    assert first.call_id.startswith("x_")
    assert first.call_id != second.call_id


def test_a_span_is_a_call_with_its_time_its_place_and_its_tokens() -> None:
    extra = {
        "gen_ai.usage.cache_read.input_tokens": 30,
        "gen_ai.usage.cache_creation.input_tokens": 20,
        "gen_ai.usage.reasoning.output_tokens": 15,
        "gen_ai.conversation.id": "conv",
        "gen_ai.agent.name": "triage",
        "gen_ai.response.time_to_first_chunk": 0.25,
        "openai.response.service_tier": "flex",
        "user.id": "customer-7",
    }
    event = only(CHAT | extra)
    assert event == UsageEvent(
        call_id="resp_1",
        source="otlp",
        client="helpdesk",
        occurred_at=NOW,
        observed_at=datetime(2026, 11, 22, 12, 0, 1, 500_000, tzinfo=UTC),
        session_id="conv",
        account_id="customer-7",
        team="support",
        agent="triage",
        provider="openai",
        model="gpt-5-2026-10-01",
        service_tier="flex",
        duration_ms=1500,
        ttft_ms=250,
        input_tokens=50,
        cache_read_tokens=30,
        cache_write_tokens=20,
        output_tokens=40,
        reasoning_tokens=15,
    )


@pytest.mark.parametrize(
    "read",
    [
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.cache_read_tokens",
        "gen_ai.usage.input_cached_tokens",
        "gen_ai.usage.details.cache_read_tokens",
    ],
)
def test_former_names_are_read_too(read: str) -> None:
    event = only(
        {
            "gen_ai.system": "OpenAI",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.prompt_tokens": "100",
            "gen_ai.usage.completion_tokens": 40,
            read: 30,
        }
    )
    assert (event.provider, event.model) == ("openai", "gpt-4o")
    assert (event.input_tokens, event.cache_read_tokens, event.output_tokens) == (70, 30, 40)


def test_an_input_smaller_than_its_cached_part_never_had_it_inside() -> None:
    event = only(CHAT | {"gen_ai.usage.cache_read.input_tokens": 90, "gen_ai.usage.cache_write_tokens": 11})
    assert (event.input_tokens, event.cache_read_tokens, event.cache_write_tokens) == (100, 90, 11)


def test_an_output_smaller_than_its_reasoning_never_had_it_inside() -> None:
    event = only(CHAT | {"gen_ai.usage.reasoning_tokens": 60})
    assert (event.output_tokens, event.reasoning_tokens) == (100, 60)


@pytest.mark.parametrize(
    ("system", "provider"),
    [
        ("anthropic", "anthropic"),
        ("gcp.gemini", "google"),
        ("aws.bedrock", "aws"),
        ("openai.responses", "openai"),
        ("mistral_ai", "mistral"),
    ],
)
def test_providers_have_the_names_that_price_lists_use(system: str, provider: str) -> None:
    assert only(without(CHAT, "gen_ai.provider.name") | {"gen_ai.system": system}).provider == provider


@pytest.mark.parametrize("operation", ["invoke_agent", "create_agent", "execute_tool", "invoke_workflow"])
def test_a_span_around_calls_is_none_even_if_it_repeats_their_tokens(operation: str) -> None:
    assert mapped(span(CHAT | {"gen_ai.operation.name": operation})) == Mapped([], [], 0, [])


@pytest.mark.parametrize("kind", ["workflow", "agent", "task", "tool"])
def test_former_spans_around_calls_are_none_either(kind: str) -> None:
    former = without(CHAT, "gen_ai.operation.name") | {"traceloop.span.kind": kind}
    assert mapped(span(former)).events == []
    assert mapped(span(without(former, "traceloop.span.kind"))).events != []


def test_embeddings_are_calls() -> None:
    said = without(CHAT, "gen_ai.usage.output_tokens") | {"gen_ai.operation.name": "embeddings"}
    assert (only(said).input_tokens, only(said).output_tokens) == (100, 0)


@pytest.mark.parametrize("missing", [("gen_ai.request.model", "gen_ai.response.model"), ("gen_ai.usage",)])
def test_without_a_model_or_tokens_there_is_no_call(missing: tuple[str, ...]) -> None:
    said = {key: value for key, value in CHAT.items() if not key.startswith(missing)}
    assert mapped(span(said)) == Mapped([], [], 0, [])


def test_a_failed_call_counts_without_tokens() -> None:
    said = {key: value for key, value in CHAT.items() if not key.startswith("gen_ai.usage")}
    assert (only(said, failed=True).status, only(said, failed=True).error_type) == ("error", "")
    limited = only(said | {"error.type": "RateLimitError", "http.response.status_code": 429})
    assert (limited.status, limited.error_type, limited.http_status) == ("error", "RateLimitError", 429)
    assert only(said | {"error.type": "503"}).http_status == 503
    assert only(said | {"error.type": "no such file: /home/me"}).error_type == ""


def test_spans_of_clients_whose_events_tell_each_call_are_left_aside() -> None:
    assert mapped(span(CHAT, service="codex_exec"), span(CHAT, service="gemini-cli")).events == []
    named_anew = span(CHAT, service="my-agents")
    named_anew.scope = "gemini-cli"
    assert mapped(named_anew).events == []
    # What Codex really sends: tokens, and neither operation nor model.
    assert mapped(span({"gen_ai.usage.input_tokens": 9, "gen_ai.usage.output_tokens": 1})).events == []


def test_the_providers_id_of_an_answer_is_the_calls_id() -> None:
    anthropic = CHAT | {"gen_ai.provider.name": "anthropic"}
    assert only(anthropic | {"gen_ai.response.id": "msg_1"}).call_id == "msg_1"
    assert only(anthropic | {"gen_ai.response.id": "msg_1"}).message_id == "msg_1"
    assert only(anthropic | {"gen_ai.response.id": "req_1"}).request_id == "req_1"
    google = CHAT | {"gen_ai.provider.name": "gcp.gen_ai", "gen_ai.response.id": "uttfv2W8"}
    assert only(google).call_id == "uttfv2W8"


def test_an_id_that_a_gateway_counts_up_is_scoped_and_a_random_one_stands_for_itself() -> None:
    counted = CHAT | {"gen_ai.response.id": "chatcmpl-1"}
    ids = {event.call_id for event in mapped(span(counted, number=1), span(counted, number=2)).events}
    assert len(ids) == 2
    random = CHAT | {"gen_ai.response.id": LONG_ID}
    ids = {event.call_id for event in mapped(span(random, number=1), span(random, number=2)).events}
    assert ids == {f":{LONG_ID}"}
    assert only(random | {"gen_ai.conversation.id": "c"}).call_id == f":{LONG_ID}"
    assert only(counted | {"gen_ai.conversation.id": "c"}).call_id == "c:chatcmpl-1"


def test_a_span_without_an_id_is_itself_the_id() -> None:
    said = without(CHAT, "gen_ai.response.id")
    events = mapped(span(said, number=1), span(said, number=2), span(said, number=1)).events
    assert [events[0].call_id == other.call_id for other in events] == [True, False, True]


def test_a_span_that_makes_no_sense_is_refused_and_its_neighbours_count() -> None:
    bad = CHAT | {"gen_ai.usage.input_tokens": -3}
    found = mapped(span(bad), span(CHAT))
    assert [event.call_id for event in found.events] == ["resp_1"]
    assert (found.rejected, found.reasons) == (1, ["gen_ai.usage.input_tokens is negative or absurd"])
