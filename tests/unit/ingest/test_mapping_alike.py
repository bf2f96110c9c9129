"""What is read once for many records never changes what any of them says."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_common.activity import encode_fact
from tokentide_common.events import encode_event
from tokentide_ingest.otlp.mapped import Mapped
from tokentide_ingest.otlp.mapping import map_logs
from tokentide_ingest.otlp.telemetry import Attributes, LogRecord, Scalar

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
TIME_NS = int(NOW.timestamp()) * 10**9
SCOPE = "com.anthropic.claude_code.events"
TAGS = {"env": "environment"}
# Everything that calls have in common; 1, 1.0 and True are equal, and spelled differently.
KEYS = (
    *("session.id", "prompt.id", "query_source", "identity.source", "model", "speed", "effort"),
    *("agent.name", "agent_id", "user.id", "user.email", "user.account_uuid", "team", "department"),
    *("project", "cost_center", "app.entrypoint", "env"),
)
VALUES = st.sampled_from(["", "a", "normal", "x" * 257, 1, 1.0, True, 0, False])
RESOURCES: list[Attributes] = [{}, {}, {"team": "core", "user.email": "A@example.com"}, {"team": "ops"}]
CALLS = st.lists(
    st.tuples(
        st.sampled_from(["api_request", "api_error", "api_refusal", "tool_decision"]),
        st.sampled_from(RESOURCES),
        st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6),
        st.integers(0, 3),
    ),
    max_size=12,
)


def record(name: str, resource: Attributes, said: Attributes) -> LogRecord:
    return LogRecord(resource, SCOPE, f"claude_code.{name}", TIME_NS, said)


def told(*found: Mapped) -> tuple[list[bytes], list[bytes], int]:
    events = [encode_event(event) for one in found for event in one.events]
    facts = [encode_fact(fact) for one in found for fact in one.facts]
    return events, facts, sum(one.rejected for one in found)


@given(CALLS)
def test_records_say_together_what_each_says_alone(
    calls: list[tuple[str, Attributes, Attributes, int]],
) -> None:
    records = [
        record(name, resource, {**said, "input_tokens": tokens, "event.sequence": tokens})
        for name, resource, said, tokens in calls
    ]
    alone = [map_logs([one], NOW, TAGS) for one in records]
    assert told(map_logs(records, NOW, TAGS)) == told(*alone)


@pytest.mark.parametrize("key", KEYS)
def test_values_that_are_equal_but_spelled_differently_are_told_apart(key: str) -> None:
    values: list[Scalar] = [1, True, 1.0, "1", 0, False]
    records = [record("api_request", RESOURCES[0], {"request_id": "req_1", key: value}) for value in values]
    assert told(map_logs(records, NOW, TAGS)) == told(*(map_logs([one], NOW, TAGS) for one in records))


def test_more_sessions_than_are_remembered_keep_their_own_calls() -> None:
    records = [
        record("api_request", RESOURCES[0], {"session.id": f"s{number % 100}", "request_id": f"req_{number}"})
        for number in range(300)
    ]
    events = map_logs(records, NOW, {}).events
    assert [(event.session_id, event.call_id) for event in events] == [
        (f"s{number % 100}", f"req_{number}") for number in range(300)
    ]
