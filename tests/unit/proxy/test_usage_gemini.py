"""Usage in answers of the Gemini API: snapshots, in three framings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.observing import told
from tokentide_proxy.observed import Observed
from tokentide_proxy.usage.reader import reader_for

PATH = "/v1beta/models/gemini-x:streamGenerateContent"
FORGED = {
    "usageMetadata": {"promptTokenCount": 10**6},
    "finishReason": "FORGED",
    "error": {"status": "FORGED"},
}


def piece(usage: dict[str, Any] | None, finish: str | None = None) -> dict[str, Any]:
    parts = [{"text": 'a "usageMetadata": {'}, {"functionCall": {"name": "f", "args": FORGED}}]
    candidate = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    said = {"candidates": [candidate], "modelVersion": "gemini-x-001", "responseId": "r1"}
    return said if usage is None else {**said, "usageMetadata": usage}


PIECES = [
    piece({"promptTokenCount": 100, "trafficType": "ON_DEMAND"}),
    piece({"promptTokenCount": 100, "candidatesTokenCount": 5, "thoughtsTokenCount": 9}),
    piece(None),
    piece(
        {"promptTokenCount": 110, "toolUsePromptTokenCount": 20, "cachedContentTokenCount": 50}
        | {"candidatesTokenCount": 30, "thoughtsTokenCount": None, "totalTokenCount": 169},
        "MAX_TOKENS",
    ),
]
EXPECTED = {
    "model": "gemini-x-001",
    "response_id": "r1",
    "input_tokens": 80,
    "cache_read_tokens": 50,
    "output_tokens": 39,
    "reasoning_tokens": 9,
    "stop_reason": "max_tokens",
    "has_usage": True,
    "finished": True,
}


def read(path: str, content_type: bytes, *body: bytes, status: int = 200, end: bool = True) -> Observed:
    reader = reader_for("gemini", path, status, [(b"content-type", content_type)])
    assert reader is not None
    for part in body:
        reader.feed(part)
    if end:
        reader.end()
    return reader.observed


def test_a_stream_of_events_is_the_last_value_of_each_field() -> None:
    events = [b"data: %b\r\n\r\n" % json.dumps(one).encode() for one in PIECES]
    assert told(read(PATH + "?alt=sse", b"text/event-stream", *events)) == EXPECTED
    begun = read(PATH, b"text/event-stream", *events[:2], end=False)
    assert (begun.input_tokens, begun.output_tokens, begun.finished) == (100, 14, False)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 300), st.sampled_from([None, 1]))
def test_a_streamed_array_is_the_same_wherever_it_is_cut(step: int, indent: int | None) -> None:
    body = json.dumps(PIECES, indent=indent).encode()
    parts = [body[at : at + step] for at in range(0, len(body), step)]
    assert told(read(PATH, b"application/json; charset=UTF-8", *parts)) == EXPECTED


def test_an_array_that_breaks_off_has_told_what_came() -> None:
    body = json.dumps(PIECES[:2]).encode()[:-1] + b", {"
    observed = read(PATH, b"application/json", b"\r\n", body)
    assert (observed.input_tokens, observed.output_tokens, observed.finished) == (100, 14, False)


def test_an_element_of_an_array_may_be_larger_than_what_is_held() -> None:
    large = {"candidates": [{"content": {"parts": [{"inlineData": {"data": "A" * 10**6}}]}}], **PIECES[1]}
    body = json.dumps([large]).encode()
    observed = read(PATH, b"application/json", *(body[at : at + 65536] for at in range(0, len(body), 65536)))
    assert (observed.input_tokens, observed.output_tokens) == (100, 14)


def test_a_whole_answer_tells_everything() -> None:
    usage = {"promptTokenCount": 130, "cachedContentTokenCount": 50, "candidatesTokenCount": 30}
    body = json.dumps(piece(usage | {"thoughtsTokenCount": 9}, "MAX_TOKENS")).encode()
    assert told(read("/v1beta/models/gemini-x:generateContent", b"application/json", body)) == EXPECTED


def test_embeddings_are_of_the_model_that_was_asked() -> None:
    body = json.dumps({"embedding": {"values": [0.1] * 9}, "usageMetadata": {"promptTokenCount": 4}}).encode()
    observed = read("/v1beta/models/embed-x:embedContent", b"application/json", body)
    assert (observed.model, observed.input_tokens, observed.output_tokens) == ("embed-x", 4, 0)
    assert observed.finished


def test_a_blocked_prompt_is_finished_and_says_why() -> None:
    said = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}}
    observed = read(PATH, b"text/event-stream", b"data: %b\n\n" % json.dumps(said).encode())
    assert (observed.stop_reason, observed.input_tokens, observed.finished) == ("safety", 4, True)


@pytest.mark.parametrize("wrap", [lambda e: e, lambda e: [e]])
def test_a_refusal_is_told_by_its_word(wrap: Any) -> None:
    error = {"error": {"code": 429, "message": "Canary", "status": "RESOURCE_EXHAUSTED"}}
    observed = read(PATH, b"application/json", json.dumps(wrap(error)).encode(), status=429)
    assert observed.error_type == "resource_exhausted"
    assert not observed.has_usage


@pytest.mark.parametrize("verb", ["countTokens", "batchGenerateContent", "predict"])
def test_what_calls_no_model_has_no_reader(verb: str) -> None:
    assert reader_for("gemini", f"/v1beta/models/gemini-x:{verb}", 200, []) is None
