"""From the bytes that were sent to the message in them: bounded, whatever they claim to be."""

from __future__ import annotations

from typing import Final

from tokentide_common.errors import UnsupportedEncoding
from tokentide_ingest.decompress import BodyDecoder
from tokentide_ingest.otlp.answers import MEDIA_TYPES, Encoding, encoding_of
from tokentide_ingest.otlp.forward_wire import WireRequest, first

# A gzip member starts like this. No message does: it would be a field of a type that does not exist.
_GZIP_START: Final = b"\x1f\x8b"


def unpacked(request: WireRequest, limit: int) -> tuple[bytes, Encoding]:
    """Return the message of a request and how it is encoded.

    Raises `UnsupportedEncoding` or `InvalidRequest`, and `TooLarge` as soon as it passes the limit.
    """
    if request.grpc:
        return unpacked_grpc(request.body, limit), "protobuf"
    encoding = required_encoding(first(request.headers, b"content-type").decode("latin-1"))
    decoder = decoder_for(first(request.headers, b"content-encoding").decode("latin-1"), limit)
    return decompressed(request.body, decoder), encoding


def required_encoding(content_type: str) -> Encoding:
    """Return how a body is encoded; raises `UnsupportedEncoding`."""
    encoding = encoding_of(content_type)
    if encoding is None:
        raise UnsupportedEncoding(f"Content-Type can be one of {', '.join(MEDIA_TYPES.values())}")
    return encoding


def decoder_for(content_encoding: str, limit: int) -> BodyDecoder | None:
    """Return what decompresses a body, None for a plain one; raises `UnsupportedEncoding`."""
    if content_encoding.strip().lower() in ("", "identity"):
        return None
    return BodyDecoder(content_encoding, limit)


def decompressed(raw: bytes, decoder: BodyDecoder | None) -> bytes:
    """Return a body that arrived as a whole, decompressed."""
    if decoder is None:
        return raw
    decoder.feed(raw)
    return bytes(decoder.finish())


def unpacked_grpc(message: bytes, limit: int) -> bytes:
    """Return a gRPC message, which the library hands over as it was sent."""
    return decompressed(message, BodyDecoder("gzip", limit) if message.startswith(_GZIP_START) else None)
