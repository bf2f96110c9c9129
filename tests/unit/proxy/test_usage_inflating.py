"""Content encodings, undone in bounded steps beside the client."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokentide_proxy.usage.inflating import (
    BROKEN,
    MAX_BYTES_OF_A_PIECE,
    STEP_BYTES,
    inflated,
    inflater_for,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


ENCODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "gzip of two members": ("x-gzip", lambda d: gzip.compress(d[:7]) + gzip.compress(d[7:])),
    "deflate": ("deflate", zlib.compress),
    "deflate without header": ("Deflate", raw_deflate),
    "zstd": ("zstd", zstd.compress),
    "zstd of two frames": ("zstd", lambda d: zstd.compress(d[:7]) + zstd.compress(d[7:])),
    "br": (" br", brotli.compress),
}


def undone(encoding: str, data: bytes, *cuts: int) -> bytes:
    inflater = inflater_for(encoding)
    assert inflater is not None
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    out = b""
    for start, end in pairwise(places):
        for piece in inflated(inflater, data[start:end]):
            # brotli's own limit is one that it may pass once.
            assert len(piece) <= 2 * STEP_BYTES
            out += piece
    return out


@pytest.mark.parametrize("kind", ENCODERS)
@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.integers(1, 3000), st.lists(st.integers(0, 5000), max_size=6))
def test_it_is_undone_wherever_it_is_cut(kind: str, data: bytes, times: int, cuts: list[int]) -> None:
    encoding, encode = ENCODERS[kind]
    assert undone(encoding, encode(data * times), *cuts) == data * times


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_body_can_be_cut_at_every_byte(kind: str) -> None:
    encoding, encode = ENCODERS[kind]
    data = b"event: ping\ndata: {}\n\n" * 5
    packed = encode(data)
    assert undone(encoding, packed, *range(len(packed))) == data


def gzip_stream() -> Callable[[bytes], bytes]:
    packer = zlib.compressobj(wbits=31)
    return lambda data: packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)


def zstd_stream() -> Callable[[bytes], bytes]:
    packer = zstd.ZstdCompressor()
    return lambda data: packer.compress(data, packer.FLUSH_BLOCK)


def brotli_stream() -> Callable[[bytes], bytes]:
    packer = brotli.Compressor()
    return lambda data: packer.process(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "stream"), [("gzip", gzip_stream), ("zstd", zstd_stream), ("br", brotli_stream)]
)
def test_every_event_that_was_flushed_comes_at_once(
    encoding: str, stream: Callable[[], Callable[[bytes], bytes]]
) -> None:
    pack, inflater = stream(), inflater_for(encoding)
    assert inflater is not None
    for number in range(5):
        event = b'data: {"n":%d}\n\n' % number
        assert b"".join(inflated(inflater, pack(event))) == event


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_bomb_ends_the_reading_before_it_is_large(kind: str) -> None:
    encoding, encode = ENCODERS[kind]
    bomb = encode(bytes(3 * MAX_BYTES_OF_A_PIECE))
    with pytest.raises(BROKEN):
        undone(encoding, bomb)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "br"])
@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_raises_nothing_unexpected(encoding: str, garbage: bytes) -> None:
    with suppress(BROKEN):
        undone(encoding, garbage, 1, 2)


def test_an_encoding_that_is_not_known_or_stacked_is_refused() -> None:
    assert inflater_for("identity") is None
    for unknown in ("compress", "gzip, br", "gzip,gzip"):
        with pytest.raises(ValueError, match="not read"):
            inflater_for(unknown)
