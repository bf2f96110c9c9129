"""What a reader must never do: raise, grow, or learn anything of the content."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.recorded_exchanges import exchanges
from tokentide_proxy.exchange import Dialect
from tokentide_proxy.usage.reader import AnswerReader, reader_for

PATHS: list[tuple[Dialect, str]] = [
    ("anthropic", "/v1/messages"),
    ("openai", "/v1/chat/completions"),
    ("openai", "/v1/responses"),
    ("gemini", "/v1beta/models/m:streamGenerateContent"),
]
TYPES = [b"text/event-stream", b"application/json", b""]
ENCODINGS = [b"", b"gzip", b"deflate", b"zstd", b"br", b"unheard-of", b"\xff"]
CANARY = "Canary-5a1c what the person typed"
RECORDED = [e for e in exchanges() if e.status == 200]
PIECE = b"A" * 65536


def reader(
    place: tuple[Dialect, str], content_type: bytes, encoding: bytes = b"", status: int = 200
) -> AnswerReader:
    headers = [(b"content-type", content_type), (b"content-encoding", encoding)]
    found = reader_for(*place, status, headers)
    assert found is not None
    return found


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from(PATHS),
    st.sampled_from(TYPES),
    st.sampled_from(ENCODINGS),
    st.sampled_from([200, 400, 529]),
    st.lists(st.binary(max_size=200), max_size=5),
)
def test_garbage_never_raises(
    place: tuple[Dialect, str], content_type: bytes, encoding: bytes, status: int, pieces: list[bytes]
) -> None:
    one = reader(place, content_type, encoding, status)
    for piece in pieces:
        one.feed(piece)
    one.end()
    assert not one.observed.has_usage


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_a_damaged_answer_never_raises(data: st.DataObject) -> None:
    recorded = data.draw(st.sampled_from(RECORDED))
    one = reader_for(recorded.dialect, recorded.path, recorded.status, recorded.headers)
    assert one is not None
    body = bytearray(recorded.body)
    for place in data.draw(st.lists(st.integers(0, len(body) - 1), max_size=20)):
        body[place] = data.draw(st.integers(0, 255))
    one.feed(bytes(body))
    one.end()


@pytest.mark.parametrize(
    "broken",
    [
        b'data: {"type":"message_delta","usage":{"output_tokens":"many"}}\n\n',
        b'data: {"type":"message_delta","usage":' + b"[" * 100_000 + b"\n\n",
        b'data: {"usage":\xff\xfe}\n\n',
        b'data: "usage"\n\ndata: usage\n\n',
    ],
)
def test_a_broken_event_leaves_the_others_readable(broken: bytes) -> None:
    one = reader(("anthropic", "/v1/messages"), b"text/event-stream")
    one.feed(broken)
    one.feed(b'data: {"type":"message_delta","delta":{},"usage":{"output_tokens":7}}\n\n' + broken)
    one.feed(b'data: {"type":"message_stop"}\n\n')
    assert (one.observed.output_tokens, one.observed.finished) == (7, True)


def test_an_encoding_that_breaks_ends_the_reading_and_keeps_what_is_known() -> None:
    one = reader(("anthropic", "/v1/messages"), b"text/event-stream", b"gzip")
    event = b'data: {"type":"message_delta","delta":{},"usage":{"output_tokens":7}}\n\n'
    one.feed(gzip.compress(event) + b"not gzip")
    one.feed(b"more")
    one.end()
    assert (one.observed.output_tokens, one.observed.finished) == (7, False)


def hostile_words() -> Iterator[tuple[tuple[Dialect, str], dict[str, object]]]:
    usage = {"input_tokens": 5, "service_tier": CANARY, "inference_geo": CANARY, "speed": CANARY}
    error = {"type": CANARY, "code": CANARY, "status": CANARY, "message": CANARY}
    said = {
        "id": CANARY,
        "model": CANARY,
        "stop_reason": CANARY,
        "usage": usage,
        "error": error,
        "type": CANARY,
    }
    yield PATHS[0], {**said, "content": [{"text": CANARY}]}
    yield PATHS[0], {"type": "message_start", "message": said}
    yield PATHS[0], {"type": "error", "error": error}
    chat = {"choices": [{"finish_reason": CANARY, "message": {"content": CANARY}}], "service_tier": CANARY}
    yield PATHS[1], {**said, **chat}
    yield PATHS[2], {"type": "response.completed", "response": {**said, "status": CANARY}}
    candidates = [{"finishReason": CANARY, "content": {"parts": [{"text": CANARY}]}}]
    words = {"modelVersion": CANARY, "responseId": CANARY, "error": error}
    yield PATHS[3], {"candidates": candidates, **words, "promptFeedback": {"blockReason": CANARY}}


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("content_type", TYPES)
def test_content_is_never_in_what_is_observed(content_type: bytes, status: int) -> None:
    for place, said in hostile_words():
        for text in (json.dumps(said), f"data: {json.dumps(said)}\n\n", json.dumps([said])):
            one = reader(place, content_type, status=status)
            one.feed(text.encode())
            one.end()
            assert "Canary" not in repr(one.observed)


@pytest.mark.parametrize("content_type", TYPES[:2])
@pytest.mark.parametrize("place", PATHS[2:], ids=lambda p: p[1])
@pytest.mark.parametrize("start", [b'{"content":"', b'[{"a":"', b'data: {"a":"', b"data: usage "])
def test_memory_is_bounded_for_a_body_of_100_mb_without_usage(
    place: tuple[Dialect, str], content_type: bytes, start: bytes
) -> None:
    one = reader(place, content_type)
    one.feed(start)
    tracemalloc.start()
    try:
        for _ in range(100 * 2**20 // len(PIECE)):
            one.feed(PIECE)
        assert tracemalloc.get_traced_memory()[1] < 2 * 2**20
    finally:
        tracemalloc.stop()
    one.end()
    assert not one.observed.has_usage
