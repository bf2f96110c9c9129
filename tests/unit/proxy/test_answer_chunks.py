"""Whole chunks may go past the parser: what is read of the answer is the same."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_proxy.answer_parser import AnswerParser, payload_start
from tokentide_proxy.upstream_errors import UpstreamBroken
from tokentide_proxy.upstream_limits import UpstreamLimits

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
# Bodies that look like framing are what could be mistaken for it.
PIECES = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=20), st.sampled_from([b"\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b"5"])
    ),
    max_size=6,
)
SIZES = st.sampled_from([b"%x", b"%X", b"0%x", b"%x;name=value"])


def read(reads: list[bytes], *, past: bool) -> tuple[bytes, bool, bool]:
    """Return the body, whether it is complete, and whether it broke, with whole chunks led past or not."""
    parser, body = AnswerParser(UpstreamLimits()), b""
    parser.expect(answered_by_head=False)
    for data in reads:
        if past and parser.between_chunks and (start := payload_start(data)):
            body += data[start:-2]
            continue
        try:
            parser.feed(data)
        except UpstreamBroken:
            return body + b"".join(parser.pieces), False, True
        body, parser.pieces = body + b"".join(parser.pieces), []
    return body, parser.complete, False


@given(data=st.data(), pieces=PIECES, ended=st.booleans(), garbage=st.binary(max_size=4))
def test_what_is_read_does_not_depend_on_it(
    data: st.DataObject, pieces: list[bytes], ended: bool, garbage: bytes
) -> None:
    chunks = [data.draw(SIZES) % len(piece) + b"\r\n" + piece + b"\r\n" for piece in pieces]
    wire = b"".join(chunks) + (b"0\r\n\r\n" if ended else garbage)
    bounds = [sum(map(len, chunks[:number])) for number in range(1, len(chunks))]
    cuts = data.draw(
        st.lists(st.one_of(st.integers(0, len(wire)), st.sampled_from([0, *bounds])), max_size=8)
    )
    edges = [0, *sorted(cuts), len(wire)]
    reads = [HEAD, *[wire[begin:end] for begin, end in pairwise(edges) if end > begin]]
    assert read(reads, past=True) == read(reads, past=False)


def test_chunks_do_go_past() -> None:
    parser = AnswerParser(UpstreamLimits())
    parser.expect(answered_by_head=False)
    parser.feed(HEAD)
    assert not parser.between_chunks
    parser.feed(b"2\r\nhi\r\n")
    assert parser.between_chunks
    parser.feed(b"2")
    assert not parser.between_chunks
    parser.feed(b"\r\nhi\r\n0\r\n\r\n")
    assert parser.complete
    assert not parser.between_chunks


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"",
            b"2\r\n",
            b"2\r\nhi",
            b"2\r\nhi\r",
            b"2\r\nhi\n",
            b"2\nhi\r\n",
            b"3\r\nhi\r\n",
            b"1\r\nhi\r\n",
        ),
        *(b"0\r\n\r\n", b"00\r\n\r\n", b"2;a\r\nhi\r\n", b" 2\r\nhi\r\n", b"+2\r\nhi\r\n", b"0x2\r\nhi\r\n"),
        *(b"2_0\r\nhi\r\n", b"2\r\nhi\r\n2\r\nhi\r\n", b"2\r\nhi\r\n0\r\n\r\n", b"00000002\r\nhi\r\n"),
    ],
)
def test_anything_but_one_whole_chunk_is_read(data: bytes) -> None:
    assert payload_start(data) == 0


@pytest.mark.parametrize("size", [1, 15, 16, 255, 256, 4095, 4096, 65535, 65536])
@pytest.mark.parametrize("written", [b"%x", b"%X", b"0%x"])
def test_a_chunk_of_any_size_is_known_however_it_is_written(size: int, written: bytes) -> None:
    opening = written % size + b"\r\n"
    chunk = opening + b"\n" * size + b"\r\n"
    assert payload_start(chunk) == len(opening)
    assert payload_start(chunk + b"\n") == payload_start(chunk[:-1]) == 0


def test_one_whole_chunk_is_known() -> None:
    assert [
        payload_start(chunk) for chunk in (b"2\r\nhi\r\n", b"a\r\n0123456789\r\n", b"02\r\n\r\n\r\n")
    ] == [3, 3, 4]
