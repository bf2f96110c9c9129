"""What the proxy saw becomes one event, under the id by which log and telemetry know the call."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.observing import observed_of
from tokentide_common.accounts import KeyRecord
from tokentide_common.events import UsageEvent, decode_wire_event, encode_event
from tokentide_common.identity import derived_call_id
from tokentide_proxy.exchange import Attribution, RequestFacts, Upstream
from tokentide_proxy.observation import usage_event
from tokentide_proxy.observed import Observed
from tokentide_proxy.outcome import Outcome
from tokentide_proxy.whom import Whom

KEY = KeyRecord(key_id="k", org_id="org", kind="p", user_id="dev", user_email="dev@x", project="default")
ANTHROPIC = Upstream("", "anthropic", "anthropic", "https", "api.anthropic.com", 443)
OPENAI = Upstream("openai", "openai", "openai", "https", "api.openai.com", 443)
GEMINI = Upstream("gemini", "gemini", "google", "https", "generativelanguage.googleapis.com", 443)
DONE = Outcome(status="ok", http_status=200, started_at=1795310328.5, duration_ms=900, ttft_ms=40)


def event(upstream: Upstream = ANTHROPIC, **changed: object) -> UsageEvent:
    said = {
        "whom": Whom(KEY, Attribution()),
        "upstream": upstream,
        "facts": RequestFacts(),
        "request_id": "",
        "observed": observed_of(),
        "outcome": DONE,
        "own_id": lambda: "exchange-1",
    }
    return usage_event(**(said | changed))  # type: ignore[arg-type]


def test_anthropics_request_id_is_the_call_and_the_message_goes_with_it() -> None:
    made = event(request_id="req_1", observed=observed_of(response_id="msg_1", model="m", output_tokens=5))
    assert (made.call_id, made.request_id, made.message_id) == ("req_1", "req_1", "msg_1")
    assert (made.source, made.model, made.output_tokens) == ("proxy", "m", 5)
    assert made.occurred_at == datetime.fromtimestamp(1795310328.5, UTC)


def test_openai_and_gemini_calls_are_known_by_their_response_ids() -> None:
    assert event(OPENAI, request_id="req_9", observed=observed_of(response_id="resp_1")).call_id == "resp_1"
    assert event(GEMINI, observed=observed_of(response_id="uttfv2")).call_id == "uttfv2"


def test_a_gateways_id_is_scoped_by_the_session() -> None:
    made = event(
        OPENAI, whom=Whom(KEY, Attribution(session_id="s")), observed=observed_of(response_id="chatcmpl-1")
    )
    assert made.call_id == "s:chatcmpl-1"


def test_a_gemini_call_has_the_same_id_behind_a_gateway_of_any_name() -> None:
    gateway = Upstream("gw", "gemini", "gw", "https", "llm.example", 443)
    made = event(
        gateway, whom=Whom(KEY, Attribution(session_id="s")), observed=observed_of(response_id="uttfv2")
    )
    assert (made.call_id, made.provider) == ("uttfv2", "gw")


@pytest.mark.parametrize(("upstream", "salt"), [(ANTHROPIC, "claude-code"), (OPENAI, "otlp")])
def test_a_long_session_does_not_make_an_id_that_no_event_can_carry(upstream: Upstream, salt: str) -> None:
    session = "s" * 250
    made = event(
        upstream,
        whom=Whom(KEY, Attribution(session_id=session)),
        observed=observed_of(response_id="chatcmpl-29"),
    )
    assert decode_wire_event(encode_event(made)).call_id == derived_call_id(salt, f"{session}:chatcmpl-29")


def test_ids_and_models_are_what_the_reader_of_the_answer_took_for_one() -> None:
    made = event(observed=observed_of(response_id="a=b", model="claude-opus-5[1m]"))
    assert (made.message_id, made.model) == ("a=b", "claude-opus-5[1m]")
    assert event(facts=RequestFacts(model="My Llama 3")).model == "My Llama 3"


def test_without_a_session_a_counter_is_scoped_by_the_key_and_a_random_id_stands_for_itself() -> None:
    random_id = "chatcmpl-BxG1mKq0aZy7Yt5eUe2rT9wQ"
    assert event(OPENAI, observed=observed_of(response_id="chatcmpl-1")).call_id == "k:chatcmpl-1"
    assert event(OPENAI, observed=observed_of(response_id=random_id)).call_id == f":{random_id}"


def test_an_exchange_without_any_id_has_one_of_its_own() -> None:
    first, again, other = event(), event(), event(own_id=lambda: "exchange-2")
    assert first.call_id == again.call_id != other.call_id
    assert first.call_id.startswith("x_")


def test_headers_go_before_the_body_and_both_before_the_key() -> None:
    made = event(
        whom=Whom(KEY, Attribution(project="mine", retry_attempt=2)),
        facts=RequestFacts(model="asked", session_id="s", device_id="d", account_id="a"),
    )
    assert (made.project, made.user_id, made.org_id, made.retry_attempt) == ("mine", "dev", "org", 2)
    assert (made.session_id, made.device_id, made.account_id, made.model) == ("s", "d", "a", "asked")


@given(
    st.builds(
        observed_of,
        model=st.text(),
        response_id=st.text(),
        stop_reason=st.text(),
        error_type=st.text(),
        output_tokens=st.integers(),
        input_tokens=st.integers(),
        reasoning_tokens=st.integers(),
        web_search_requests=st.integers(),
    )
)
def test_whatever_an_answer_says_the_event_can_be_read_from_the_topic(observed: Observed) -> None:
    made = event(observed=observed)
    assert decode_wire_event(encode_event(made)).call_id == made.call_id
    assert made.reasoning_tokens <= made.output_tokens
