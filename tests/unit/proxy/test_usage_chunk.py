"""The usage chunk of a chat stream, hidden: it and nothing else, and nothing is held back for it."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokentide_proxy.usage.usage_chunk import UsageChunkFilter

HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-x"}
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 0}}


def event(end: str = "\n", compact: bool = True, **said: Any) -> bytes:
    text = json.dumps({**HEAD, **said}, separators=(",", ":") if compact else None)
    return f"data: {text}{end}{end}".encode()


def content(text: str, end: str = "\n", compact: bool = True) -> bytes:
    choices = [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
    return event(end, compact, choices=choices, usage=None)


def hidden(end: str = "\n", compact: bool = True) -> bytes:
    return event(end, compact, choices=[], usage=USAGE)


def done(end: str = "\n") -> bytes:
    return f"data: [DONE]{end}{end}".encode()


def passed(stream: bytes, *cuts: int) -> bytes:
    chunk_filter = UsageChunkFilter()
    places = [0, *sorted(cuts), len(stream)]
    out = b"".join(chunk_filter.feed(stream[start:end]) for start, end in pairwise(places))
    return out + chunk_filter.end()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("compact", [True, False])
def test_exactly_the_usage_chunk_is_hidden_wherever_the_bytes_are_cut(end: str, compact: bool) -> None:
    before = (
        f": keep-alive{end}{end}".encode() + content("a", end, compact) + content('"usage":{', end, compact)
    )
    stream = before + hidden(end, compact) + done(end)
    expected = before + done(end)
    assert passed(stream) == expected
    assert passed(stream, *range(len(stream))) == expected
    for cut in range(len(stream)):
        assert passed(stream, cut) == expected


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_chunk_is_hidden_however_a_gateway_writes_it(end: str) -> None:
    fields = f"id: 7{end}event: message{end}".encode()
    chunk = fields + hidden(end).replace(b'"usage":{', b'"usage" : {')
    before = fields + content("a", end)
    stream = before + chunk + done(end)
    for cut in range(len(stream)):
        assert passed(stream, cut) == before + done(end)
    assert passed(stream, *range(len(stream))) == before + done(end)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_stream_comes_out_whole_but_for_the_chunk(data: st.DataObject) -> None:
    ends = st.sampled_from(["\n", "\r\n", "\r"])
    kinds = [
        ends.map(hidden),
        ends.map(done),
        ends.map(lambda end: content("x", end)),
        ends.map(lambda end: event(end, choices=[], prompt_filter_results=[])),
        ends.map(lambda end: event(end, choices=[], usage=None)),
        ends.map(lambda end: event(end, choices=[{"delta": {}}], usage=USAGE)),
        ends.map(lambda end: event(end, error={"message": "x"})),
        ends.map(lambda end: f"event: x{end}data: {{}}{end}{end}".encode()),
        st.binary(max_size=12).map(lambda junk: junk + b"\n\n"),
    ]
    parts = data.draw(st.lists(st.one_of(kinds), max_size=8))
    stream = b"".join(parts)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12))
    expected = passed(stream)
    assert passed(stream, *cuts) == expected
    if b"\r" not in stream:
        assert expected == b"".join(part for part in parts if part != hidden())


def test_whole_events_go_out_in_the_call_that_brought_them() -> None:
    chunk_filter = UsageChunkFilter()
    for one in (
        content("a"),
        content("b") + content("c"),
        b": ping\n\n",
        event(choices=[], usage=None),
        done(),
    ):
        assert chunk_filter.feed(one) == one


def test_an_event_in_parts_goes_out_as_soon_as_it_cannot_be_the_hidden_one() -> None:
    for one in (
        content("hello"),
        content("hello", "\r\n"),
        b": a comment\n\n",
        done(),
        b'event: x\ndata: {"a":1}\n\n',
        b"event: x\nid: 7\n" + content("hello"),
    ):
        chunk_filter, out = UsageChunkFilter(), b""
        choice = b'"choices":[{'
        known = one.find(choice) + len(choice) if choice in one else len(one)
        for at in range(len(one)):
            out += chunk_filter.feed(one[at : at + 1])
            if b"data: {" in one:
                assert out == (one[: at + 1] if at + 1 >= known else b"")
            elif at >= 6:
                assert out == one[: at + 1]


def test_an_event_behind_the_hidden_one_in_the_same_bytes_is_not_held() -> None:
    chunk_filter = UsageChunkFilter()
    assert chunk_filter.feed(content("a") + hidden() + done()) == content("a") + done()
    assert chunk_filter.end() == b""


def test_the_beginning_of_an_event_that_never_ends_is_given_back() -> None:
    chunk_filter = UsageChunkFilter()
    assert chunk_filter.feed(b'data: {"id":') == b""
    assert chunk_filter.end() == b'data: {"id":'


def test_a_long_event_without_choices_is_not_held_for_ever() -> None:
    chunk_filter = UsageChunkFilter()
    out = b"".join(chunk_filter.feed(part) for part in [b'data: {"id":"', *[b"x" * 1000] * 40])
    assert len(out) > 20_000
    assert out + chunk_filter.feed(b'"}\n\n') == b'data: {"id":"' + b"x" * 40_000 + b'"}\n\n'
