import contextlib
import gzip
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_common.errors import InvalidRequest, TooLarge, UnsupportedEncoding
from tokentide_ingest.decompress import BodyDecoder

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 2**20
LIMIT = 10 * MIB
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "identity": bytes,
    "gzip": gzip.compress,
    "zstd": zstd.compress,
}


def read(encoding: str, body: bytes, *, limit: int = LIMIT, step: int = 65_536) -> bytes:
    decoder = BodyDecoder(encoding, limit)
    for start in range(0, len(body), step):
        decoder.feed(body[start : start + step])
    return bytes(decoder.finish())


@given(
    body=st.binary(max_size=4_000) | st.integers(0, 300_000).map(bytes),
    encoding=st.sampled_from(sorted(COMPRESSORS)),
    step=st.integers(1, 5_000),
)
def test_any_body_comes_out_as_it_went_in_however_it_is_cut(body: bytes, encoding: str, step: int) -> None:
    assert read(encoding, COMPRESSORS[encoding](body), step=step) == body


@pytest.mark.parametrize("encoding", sorted(COMPRESSORS))
def test_the_bound_is_exact(encoding: str) -> None:
    pack = COMPRESSORS[encoding]
    assert len(read(encoding, pack(bytes(1000)), limit=1000)) == 1000
    with pytest.raises(TooLarge):
        read(encoding, pack(bytes(1001)), limit=1000)


def test_fed_bytes_are_reported_as_they_are_held() -> None:
    decoder = BodyDecoder("gzip", LIMIT)
    packed = gzip.compress(b"a" * 500_000)
    assert sum(decoder.feed(packed[i : i + 100]) for i in range(0, len(packed), 100)) == 500_000


@pytest.mark.parametrize(
    "encoding", ["br", "deflate", "gzip, gzip", "gzip, zstd", "identity, gzip", "GZIP;q=1", "x"]
)
def test_unknown_and_stacked_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(UnsupportedEncoding):
        BodyDecoder(encoding, LIMIT)


def test_encoding_names_are_read_in_any_case() -> None:
    assert read(" GZip ", gzip.compress(b"x")) == b"x"


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("step", [1, 7, 65_536])
class TestDamage:
    BODY = b'{"events": []}' * 50

    def test_truncated_bodies_are_refused_at_every_length(self, encoding: str, step: int) -> None:
        packed = COMPRESSORS[encoding](self.BODY)
        for length in range(len(packed)):
            with pytest.raises(InvalidRequest, match="truncated"):
                read(encoding, packed[:length], step=step)

    def test_bytes_after_the_end_are_refused(self, encoding: str, step: int) -> None:
        packed = COMPRESSORS[encoding](self.BODY)
        for tail in (b"\0", b"tail", packed):
            with pytest.raises(InvalidRequest, match="follow the end"):
                read(encoding, packed + tail, step=step)

    def test_a_flipped_bit_is_refused_or_changes_nothing(self, encoding: str, step: int) -> None:
        packed = bytearray(
            gzip.compress(self.BODY)
            if encoding == "gzip"
            else zstd.compress(self.BODY, options={zstd.CompressionParameter.checksum_flag: 1})
        )
        for position in range(len(packed)):
            damaged = bytearray(packed)
            damaged[position] ^= 0x10
            with contextlib.suppress(InvalidRequest):
                assert read(encoding, bytes(damaged), step=step) == self.BODY


def gzip_bomb(total: int) -> Iterator[bytes]:
    packer = zlib.compressobj(9, wbits=31)
    for _ in range(total // MIB):
        yield packer.compress(bytes(MIB))
    yield packer.flush()


def zstd_bomb(total: int) -> Iterator[bytes]:
    packer = zstd.ZstdCompressor()
    for _ in range(total // MIB):
        yield packer.compress(bytes(MIB))
    yield packer.flush()


@pytest.mark.parametrize(("encoding", "bomb"), [("gzip", gzip_bomb), ("zstd", zstd_bomb)])
def test_a_bomb_is_stopped_at_the_bound_with_memory_flat(
    encoding: str, bomb: Callable[[int], Iterator[bytes]]
) -> None:
    packed = b"".join(bomb(1024 * MIB))
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            read(encoding, packed)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2.5 * LIMIT


def test_a_zstd_window_larger_than_any_allowed_body_is_too_large() -> None:
    packer = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    packed = packer.compress(bytes(MIB)) + packer.flush()
    with pytest.raises(TooLarge):
        read("zstd", packed)


def test_compressed_bytes_are_bounded_as_well() -> None:
    decoder = BodyDecoder("gzip", 1000)
    with pytest.raises(TooLarge):
        decoder.feed(b"\x1f\x8b" + bytes(2000))


@given(st.binary(max_size=2000), st.sampled_from(["gzip", "zstd"]))
def test_no_bytes_can_raise_anything_but_our_errors(body: bytes, encoding: str) -> None:
    with contextlib.suppress(InvalidRequest):
        read(encoding, body)
