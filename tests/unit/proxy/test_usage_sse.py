"""Events out of bytes: by the book, wherever they are cut, and bounded."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tokentide_proxy.usage.sse import MAX_HELD_BYTES, EventSplitter, data_of

MARKED = (b"usage", b"error")
LINES = st.sampled_from(
    [
        b"data: usage",
        b"data:usage 2",
        b"data: error of usage",
        b"data: error",
        b"data:  other",
        b"data",
        b": usage",
        b"event: usage",
        b"id: 1",
        b"\xff",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


def split(stream: bytes, *cuts: int) -> list[bytes]:
    splitter = EventSplitter(MARKED, {})
    places = [0, *sorted(cuts), len(stream)]
    return [data for start, end in pairwise(places) for data in splitter.feed(stream[start:end])]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.lists(LINES, min_size=1, max_size=4), max_size=6),
    ENDS,
    st.lists(st.integers(0, 400), max_size=8),
)
def test_events_are_those_of_the_standard(events: list[list[bytes]], end: bytes, cuts: list[int]) -> None:
    stream = b"".join(b"".join(line + end for line in event) + end for event in events)
    expected, first = [], True
    for event in events:
        data = b"\n".join(line[5:].removeprefix(b" ") for line in event if line.startswith(b"data:"))
        marked = any(marker in line for line in event for marker in MARKED)
        if data and (marked or first):
            expected.append(data)
            first = False
    assert split(stream, *(cut for cut in cuts if cut <= len(stream))) == expected


def test_line_ends_may_be_mixed() -> None:
    stream = b"data: usage 1\r\n\ndata: usage 2\n\r\ndata: usage 3\r\rdata: usage 4\n\n"
    for cut in range(len(stream) + 1):
        assert split(stream, cut) == [b"usage 1", b"usage 2", b"usage 3", b"usage 4"]


def test_data_over_several_lines_is_joined() -> None:
    assert data_of(b': no\r\ndata: {"a":\r\nevent: x\r\ndata: 1}') == b'{"a":\n1}'


def test_an_event_without_its_end_is_none() -> None:
    assert split(b"data: usage\n") == []


def test_of_an_event_too_large_to_hold_the_wanted_members_come_anyway() -> None:
    large = b'{"output":"%b","usage":{"a":1}}' % (b"x" * (3 * MAX_HELD_BYTES))
    stream = b"data: first\n\n" + b"event: done\ndata: " + large + b"\n\ndata: usage\n\n"
    for step in (1000, 65536):
        splitter = EventSplitter(MARKED, {b"usage": None})
        found = []
        for at in range(0, len(stream), step):
            found += splitter.feed(stream[at : at + step])
            assert len(splitter._held) <= MAX_HELD_BYTES
        assert found == [b"first", b'{"usage":{"a":1}}', b"usage"]


def test_a_byte_order_mark_at_the_beginning_is_no_part_of_the_first_line() -> None:
    stream = b"\xef\xbb\xbfdata: first\n\ndata: second\n\ndata: usage\n\n"
    for cut in range(len(stream)):
        assert split(stream, cut) == [b"first", b"usage"]
