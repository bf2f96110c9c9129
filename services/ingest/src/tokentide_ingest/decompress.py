"""Request bodies, decompressed in bounded steps: a bomb is stopped as soon as it passes the bound."""

from __future__ import annotations

import sys
import zlib
from typing import Final, Protocol

from tokentide_common.errors import InvalidRequest, TooLarge, UnsupportedEncoding

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ENCODINGS: Final = ("identity", "gzip", "zstd")
_STEP_BYTES: Final = 64 * 1024
_GZIP_CONTAINER: Final = 16 + zlib.MAX_WBITS
# RFC 9659 lets a receiver refuse windows over 8 MiB. Twice that also admits a frame whose window is its
# whole content, and keeps what one request can make the decoder allocate in the order of the body's bound.
_ZSTD_WINDOW_LOG: Final = 24


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """zlib's decompressor with the interface that zstd's (and bz2's, and lzma's) has."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(_GZIP_CONTAINER)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        out = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        # A full step may have left output inside zlib even when it took all the input.
        self.needs_input = not self._inner.unconsumed_tail and len(out) < max_length
        return out


class BodyDecoder:
    """Takes a body chunk by chunk, holds at most `limit` decompressed bytes of it, gives them back.

    Raises `UnsupportedEncoding` for encodings unknown or stacked, `TooLarge` past the bound (of the
    compressed bytes too), `InvalidRequest` for what is corrupt, truncated or followed by other bytes.
    """

    def __init__(self, content_encoding: str, limit: int) -> None:
        self._inner = _decompressor(content_encoding)
        self._limit = limit
        self._received = 0
        self._body = bytearray()

    def feed(self, chunk: bytes) -> int:
        """Take the next bytes as they were sent; return how many more bytes are held now."""
        before = len(self._body)
        self._received += len(chunk)
        if self._received > self._limit:
            raise too_large(self._limit)
        if self._inner is None:
            self._body += chunk
        elif chunk:
            self._decompress(self._inner, chunk)
        return len(self._body) - before

    def finish(self) -> bytearray:
        """Return the whole body."""
        if self._inner is not None and not self._inner.eof:
            raise InvalidRequest("the compressed body is truncated", code="malformed_body")
        return self._body

    def _decompress(self, inner: _Decompressor, data: bytes) -> None:
        if inner.eof:
            raise _trailing_bytes()
        while True:
            try:
                # One byte of room over the bound tells "exactly full" from "more to come".
                self._body += inner.decompress(data, min(_STEP_BYTES, self._limit + 1 - len(self._body)))
            except (zlib.error, zstd.ZstdError) as exc:
                if "too much memory" in str(exc):
                    raise too_large(self._limit) from None
                raise InvalidRequest("the compressed body is corrupt", code="malformed_body") from None
            if len(self._body) > self._limit:
                raise too_large(self._limit)
            if inner.eof and inner.unused_data:
                raise _trailing_bytes()
            if inner.eof or inner.needs_input:
                return
            data = b""


def too_large(limit: int) -> TooLarge:
    """Return the error for a body over `limit` bytes."""
    return TooLarge(f"the body is over {limit} bytes, sent or decompressed; send smaller batches")


def _decompressor(content_encoding: str) -> _Decompressor | None:
    match content_encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return _Gzip()
        case "zstd":
            return zstd.ZstdDecompressor(
                options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
            )
        case _:
            raise UnsupportedEncoding(f"Content-Encoding can be one of {', '.join(ENCODINGS)}, not stacked")


def _trailing_bytes() -> InvalidRequest:
    return InvalidRequest("bytes follow the end of the compressed body", code="malformed_body")
