"""Undoing a body's content encoding beside the client, in bounded steps."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from typing import Final, Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STEP_BYTES: Final = 64 * 1024
# Text shrinks to a twentieth, rarely to a hundredth. A piece from the network that grows to more than this is
# a bomb, and nobody's usage.
MAX_BYTES_OF_A_PIECE: Final = 16 * 1024 * 1024
# RFC 9659: a zstd body may ask its receiver for a window of 8 MiB, no more.
_ZSTD_WINDOW_LOG: Final = 23
_GZIP_CONTAINER: Final = 16 + zlib.MAX_WBITS

BROKEN: Final = (zlib.error, zstd.ZstdError, brotli.error, EOFError, ValueError)
"""What a decoder raises for bytes that it cannot read."""


class Inflater(Protocol):
    """A content encoding being undone."""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Take the next encoded bytes, give what they stand for in steps; raises one of `BROKEN`."""


class _Zlib:
    """gzip, of one member or several, and deflate with zlib's header or, as some senders have it, without."""

    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._inner = zlib.decompressobj(wbits) if wbits else None
        self._head = b""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        if self._inner is None:
            data = self._head + data
            if len(data) < 2:
                self._head = data
                return
            self._inner = zlib.decompressobj(_deflate_container(data))
        while data:
            if self._inner.eof:
                if self._wbits != _GZIP_CONTAINER:
                    return
                self._inner = zlib.decompressobj(self._wbits)
            out = self._inner.decompress(data, STEP_BYTES)
            yield out
            data = self._inner.unconsumed_tail or self._inner.unused_data
            # A full step may have left output inside zlib even when it took all the input.
            while not data and len(out) == STEP_BYTES and not self._inner.eof:
                out = self._inner.decompress(b"", STEP_BYTES)
                yield out


class _Zstd:
    def __init__(self) -> None:
        self._inner = _zstd_frame()

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while True:
            if self._inner.eof:
                if not data:
                    return
                self._inner = _zstd_frame()
            yield self._inner.decompress(data, STEP_BYTES)
            if self._inner.eof:
                data = self._inner.unused_data
            elif self._inner.needs_input:
                return
            else:
                data = b""


class _Brotli:
    def __init__(self) -> None:
        self._inner = brotli.Decompressor()

    def pieces(self, data: bytes) -> Iterator[bytes]:
        yield self._inner.process(data, output_buffer_limit=STEP_BYTES)
        while not self._inner.can_accept_more_data():
            yield self._inner.process(b"", output_buffer_limit=STEP_BYTES)


def inflater_for(content_encoding: str) -> Inflater | None:
    """Return what undoes an encoding, None where there is none. Raises `ValueError` for one unknown."""
    match content_encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return _Zlib(_GZIP_CONTAINER)
        case "deflate":
            return _Zlib(0)
        case "zstd":
            return _Zstd()
        case "br":
            return _Brotli()
        case _:
            raise ValueError("an encoding that is not read")


def inflated(inflater: Inflater, data: bytes) -> Iterator[bytes]:
    """Give a piece's content in steps, up to the bound of one piece; raises one of `BROKEN`."""
    total = 0
    for piece in inflater.pieces(data):
        total += len(piece)
        if total > MAX_BYTES_OF_A_PIECE:
            raise ValueError("a bomb")
        yield piece


def _deflate_container(head: bytes) -> int:
    has_header = head[0] & 0x0F == zlib.DEFLATED and (head[0] << 8 | head[1]) % 31 == 0
    return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS


def _zstd_frame() -> zstd.ZstdDecompressor:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})
