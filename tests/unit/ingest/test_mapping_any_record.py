"""Any record at all: it is mapped or refused, and nothing of it that is content gets through."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tokentide_common.activity import decode_fact, encode_fact
from tokentide_common.events import check_event, decode_wire_event, encode_event
from tokentide_ingest.otlp import claude_code, codex, gemini_cli
from tokentide_ingest.otlp.kept import CONTENT, KEPT
from tokentide_ingest.otlp.mapped import Mapped
from tokentide_ingest.otlp.mapping import map_logs, map_spans
from tokentide_ingest.otlp.telemetry import Attributes, LogRecord, Span

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
TIME_NS = int(NOW.timestamp()) * 10**9
CLAUDE = "com.anthropic.claude_code.events"
CALL: Attributes = {
    "event.timestamp": "2026-11-22T12:00:00.000Z",
    "session.id": "s1",
    "model": "claude-opus-5-5",
    "request_id": "req_1",
    "output_tokens": 5,
}
NAMES = sorted({*claude_code.TELLERS, *codex.TELLERS, *gemini_cli.TELLERS, "other"})
VALUES = st.one_of(
    st.text(max_size=300),
    st.integers(-(2**70), 2**70),
    st.integers(0, 2**31),
    st.floats(),
    st.booleans(),
    st.sampled_from(
        ["true", "false", "9", "1e400", "0.1", "req_1", "chat", "response.completed", "anthropic"]
    ),
)
ATTRIBUTES = st.dictionaries(st.sampled_from(sorted(KEPT)), VALUES, max_size=40)
TIMES = st.one_of(st.integers(-(2**65), 2**65), st.integers(TIME_NS - 10**18, TIME_NS + 10**15))
SCOPES = st.sampled_from([CLAUDE, "gemini-cli", "codex_otel.log_only", ""])


@given(
    st.lists(st.builds(LogRecord, ATTRIBUTES, SCOPES, st.sampled_from(NAMES), TIMES, ATTRIBUTES), max_size=5)
)
def test_whatever_a_log_record_says_it_is_mapped_or_refused(records: list[LogRecord]) -> None:
    _judge(map_logs(records, NOW, {"user.email": "mail", "model": "m"}))


@given(
    st.lists(
        st.builds(
            Span,
            ATTRIBUTES,
            SCOPES,
            st.sampled_from(["claude_code.llm_request", "chat gpt-5", "claude_code.tool"]),
            st.just("ab" * 8),
            st.just("cd" * 16),
            TIMES,
            TIMES,
            st.booleans(),
            ATTRIBUTES,
        ),
        max_size=5,
    )
)
def test_whatever_a_span_says_it_is_mapped_or_refused(spans: list[Span]) -> None:
    _judge(map_spans(spans, NOW, {"user.email": "mail", "model": "m"}))


def _judge(found: Mapped) -> None:
    for event in found.events:
        check_event(event, NOW)
        assert decode_wire_event(encode_event(event)) == event
    for fact in found.facts:
        assert decode_fact(encode_fact(fact)) == fact
    assert found.rejected >= len(found.reasons)
    assert len(found.reasons) <= 10


class _Watched(dict[str, Any]):
    """Attributes that remember what was asked for."""

    def __init__(self, values: Mapping[str, Any], asked: set[str]) -> None:
        super().__init__(values)
        self._asked = asked

    def get(self, key: str, default: Any = None) -> Any:
        self._asked.add(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self._asked.add(str(key))
        return super().__contains__(key)

    def __getitem__(self, key: str) -> Any:
        self._asked.add(key)
        return super().__getitem__(key)


@given(ATTRIBUTES, st.sampled_from(NAMES), SCOPES)
def test_nothing_is_asked_for_that_is_not_kept(said: Attributes, name: str, scope: str) -> None:
    asked: set[str] = set()
    watched = _Watched(said, asked)
    map_logs([LogRecord(watched, scope, name, TIME_NS, watched)], NOW, {})
    for span in ("claude_code.llm_request", "chat"):
        map_spans([Span(watched, scope, span, "a", "b", TIME_NS, TIME_NS, False, watched)], NOW, {})
    assert asked <= KEPT


def test_nothing_is_kept_that_holds_content_not_even_as_a_configured_tag() -> None:
    assert KEPT.isdisjoint(CONTENT)
    said: Attributes = CALL | dict.fromkeys(CONTENT, "canary")
    tags = dict.fromkeys(CONTENT, "tag")
    [event] = map_logs([LogRecord({}, CLAUDE, "api_request", TIME_NS, said)], NOW, tags).events
    assert event.tags == {}


def _fields(found: Mapped) -> Iterator[str]:
    yield from (repr(one) for one in (*found.events, *found.facts))


@given(st.sampled_from(NAMES), SCOPES)
def test_content_that_slips_past_the_decoder_is_still_not_mapped(name: str, scope: str) -> None:
    canary = "canary words /home/me"
    keys = ("prompt", "response", "error", "tool_input", "arguments", "output", "body", "error.message")
    said: Attributes = (
        CALL | {"event.kind": "response.completed", "input_token_count": 1} | dict.fromkeys(keys, canary)
    )
    found = map_logs([LogRecord({}, scope, name, TIME_NS, said)], NOW, {})
    assert not any("canary" in text for text in _fields(found))
