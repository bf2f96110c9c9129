"""What is noted of calls: exactly what the provider said, for whom the request said, and of calls only."""

from __future__ import annotations

import json

import pytest

from infra.provider_answers import anthropic_events, anthropic_message, openai_chunks
from infra.proxied import bare, post, proxied
from infra.raw_upstream import Pause, RawUpstream, chunked, ok, streamed
from infra.waiting import until

JSON = (b"content-type", b"application/json")
CHAT = b"/openai/v1/chat/completions"
GEMINI = {
    "responseId": "r1",
    "modelVersion": "gemini-3-pro",
    "candidates": [{"finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 20, "candidatesTokenCount": 6, "thoughtsTokenCount": 4},
}


async def test_a_call_is_counted_to_the_token_for_whom_it_was_made() -> None:
    answer = streamed(*anthropic_events())
    head, _, rest = answer.partition(b"\r\n\r\n")
    async with proxied(RawUpstream([head + b"\r\nrequest-id: req_9\r\n\r\n", Pause(0.05), rest])) as proxy:
        body = (
            b'{"model":"claude-sonnet-5","stream":true,"metadata":{"user_id":"{\\"device_id\\":\\"d1\\"}"}}'
        )
        await proxy.ask(
            post(
                b"/v1/messages?beta=true",
                body,
                (b"X-Tokentide-Project", b"atlas"),
                (b"X-Tokentide-Tags", b"pool=a"),
                (b"X-Claude-Code-Session-Id", b"s1"),
                (b"X-Stainless-Retry-Count", b"1"),
                (b"User-Agent", b"claude-cli/2.1.9 (external, cli)"),
            )
        )
        event = await proxy.event()
    assert (event.call_id, event.message_id, event.source) == ("req_9", "msg_1", "proxy")
    assert (event.status, event.http_status, event.stop_reason) == ("ok", 200, "end_turn")
    assert (event.input_tokens, event.cache_read_tokens, event.output_tokens) == (11, 7, 42)
    assert (event.org_id, event.key_id, event.user_id, event.team) == ("org_1", "key_1", "dev", "core")
    assert (event.project, event.session_id, event.client) == ("atlas", "s1", "claude-code")
    assert (event.tags, event.device_id) == ({"pool": "a"}, "d1")
    assert (event.provider, event.model) == ("anthropic", "claude-sonnet-5")
    assert event.duration_ms >= event.ttft_ms >= 40
    assert event.retry_attempt == 1


@pytest.mark.parametrize(
    "request_bytes",
    [
        post(b"/v1/messages/count_tokens", b"{}"),
        post(b"/v1/messages/batches", b"{}"),
        bare(b"GET", b"/v1/models?limit=1000"),
        bare(b"GET", b"/openai/v1/responses/resp_1"),
        bare(b"GET", b"/openai/v1/chat/completions"),
        post(b"/gemini/v1beta/models/g:countTokens", b"{}"),
        bare(b"HEAD", b"/api/hello"),
    ],
)
async def test_what_is_no_call_goes_through_and_is_not_counted(request_bytes: bytes) -> None:
    head = request_bytes.startswith(b"HEAD")
    upstream = RawUpstream([ok(b"" if head else b'{"input_tokens":5}', JSON)])
    async with proxied(upstream) as proxy:
        assert (await proxy.ask(request_bytes, bodiless=head)).status == 200
    assert proxy.events == []


async def test_openai_and_gemini_are_counted_in_buckets_of_their_own() -> None:
    chat = {
        "id": "chatcmpl-1",
        "model": "gpt-5.5",
        "usage": {"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}},
    }
    async with proxied(
        RawUpstream([ok(json.dumps(chat).encode(), JSON)], [ok(json.dumps(GEMINI).encode(), JSON)])
    ) as proxy:
        await proxy.ask(post(CHAT, b'{"model":"gpt-5.5"}'))
        await proxy.ask(post(b"/gemini/v1beta/models/gemini-3-pro:generateContent", b"{}"))
        await until(lambda: len(proxy.events) == 2)
    openai, gemini = proxy.events
    assert (openai.message_id, openai.provider, openai.input_tokens, openai.cache_read_tokens) == (
        "chatcmpl-1",
        "openai",
        5,
        4,
    )
    assert (gemini.call_id, gemini.provider, gemini.input_tokens, gemini.output_tokens) == (
        "r1",
        "google",
        20,
        10,
    )


async def test_usage_that_a_client_did_not_ask_for_is_counted_and_hidden() -> None:
    asked = b'{"model":"gpt-5.5", "stream":true, "messages":[]}'
    chunks = openai_chunks()
    async with proxied(RawUpstream([streamed(*chunks)])) as proxy:
        answer = await proxy.ask(post(CHAT, asked, (b"Accept-Encoding", b"gzip")))
        event = await proxy.event()
    assert answer.body == b"".join([*chunks[:2], chunks[3]])
    assert (event.status, event.input_tokens, event.output_tokens) == ("ok", 9, 5)
    request = proxy.upstream.requests[0]
    assert json.loads(request.body)["stream_options"] == {"include_usage": True}
    assert request.header(b"content-length") == b"%d" % len(request.body)
    assert request.header(b"accept-encoding") == b"identity"


async def test_usage_that_a_client_asked_for_is_shown_and_nothing_is_changed() -> None:
    asked = b'{"model":"gpt-5.5","stream":true,"stream_options":{"include_usage":true}}'
    chunks = openai_chunks()
    async with proxied(RawUpstream([streamed(*chunks)])) as proxy:
        answer = await proxy.ask(post(CHAT, asked, (b"Accept-Encoding", b"gzip")))
        event = await proxy.event()
    assert answer.body == b"".join(chunks)
    assert event.output_tokens == 5
    assert proxy.upstream.requests[0].body == asked
    assert proxy.upstream.requests[0].header(b"accept-encoding") == b"gzip"


async def test_usage_is_hidden_wherever_the_answer_is_cut() -> None:
    chunks = openai_chunks()
    head, _, _ = streamed(b"").partition(b"\r\n\r\n")
    body = b"".join(chunks)
    cuts = [
        [head + b"\r\n\r\n", chunked(body[:at])[:-5], Pause(), chunked(body[at:])]
        for at in range(1, len(body), 7)
    ]
    async with proxied(RawUpstream(*cuts)) as proxy, proxy.connected() as client:
        for _ in cuts:
            client.send(post(CHAT, b'{"model":"gpt-5.5","stream":true}'))
            assert (await client.answer()).body == b"".join([*chunks[:2], chunks[3]])
        assert {(e.status, e.output_tokens) for e in proxy.events} == {("ok", 5)}


async def test_a_long_request_in_parts_is_asked_for_its_usage_too() -> None:
    body = b'{"model":"gpt-5.5","stream":true,"messages":["' + b"x" * 2_000_000 + b'"]}'
    async with proxied(RawUpstream([streamed(*openai_chunks())])) as proxy:
        answer = await proxy.ask(post(CHAT, body))
    assert b'"usage": {' not in answer.body
    assert len(proxy.upstream.requests[0].body) == len(body) + len(
        b'"stream_options":{"include_usage":true},'
    )


async def test_limits_that_an_answer_tells_are_noted_for_its_key() -> None:
    limits = [
        (b"anthropic-ratelimit-requests-limit", b"50"),
        (b"anthropic-ratelimit-requests-remaining", b"49"),
        (b"anthropic-organization-id", b"acct-1"),
    ]
    async with proxied(RawUpstream([ok(anthropic_message(), JSON, *limits)])) as proxy:
        await proxy.ask(post(b"/v1/messages", b"{}"))
        await proxy.event()
    assert [(fact.kind, fact.account_id, fact.org_id, fact.key_id) for fact in proxy.limits] == [
        ("requests", "acct-1", "org_1", "key_1")
    ]


async def test_the_account_of_a_subscription_is_the_one_that_the_request_names() -> None:
    window = [(b"x-codex-primary-used-percent", b"12.5"), (b"x-codex-primary-window-minutes", b"300")]
    async with proxied(RawUpstream([ok(b'{"id":"resp_1"}', JSON, *window)])) as proxy:
        await proxy.ask(post(b"/openai/v1/responses", b"{}", (b"ChatGPT-Account-Id", b"acct-2")))
        await proxy.event()
    assert [(fact.kind, fact.account_id, fact.utilization) for fact in proxy.limits] == [
        ("codex_primary", "acct-2", "0.125")
    ]


async def test_who_is_not_let_in_asks_nobody_and_is_no_call() -> None:
    async with proxied(RawUpstream([ok()])) as proxy:
        answer = await proxy.ask(post(CHAT, b"{}", (b"X-Refuse", b"me")))
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (401, "unauthorized")
    assert (proxy.events, proxy.upstream.requests) == ([], [])


async def test_metrics_say_how_much_passed_and_what_it_cost() -> None:
    async with proxied(RawUpstream([ok(anthropic_message(), JSON)])) as proxy:
        for _ in range(3):
            await proxy.ask(post(b"/v1/messages", b"{}"))
        await until(lambda: len(proxy.events) == 3)
        page = proxy.metrics.render().decode()
    assert 'tokentide_proxy_requests_total{status="200",upstream="anthropic"} 3.0' in page
    assert "tokentide_proxy_overhead_seconds_count 3.0" in page


async def test_the_log_has_a_line_for_each_exchange_and_nothing_of_its_content(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with proxied(RawUpstream([ok(b'{"secret-answer":1}', JSON)])) as proxy:
        await proxy.ask(
            post(b"/v1/messages?key=secret-query", b"secret-prompt", (b"X-Api-Key", b"secret-key"))
        )
        await proxy.event()
    logged = "".join(capsys.readouterr())
    assert logged.count("path=/v1/messages") == 1
    assert "secret" not in logged
