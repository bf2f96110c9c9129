"""Sends gRPC export calls to a collector: over gRPC, or as OTLP/HTTP, the message bytes as they are."""

from __future__ import annotations

from typing import Final

import grpc
import grpc.aio

from tokentide_ingest.otlp.forward_wire import Headers, WireAnswer

PROTOBUF: Final = b"application/x-protobuf"
UNAVAILABLE: Final = 14
_UNKNOWN: Final = 2
# The specification's mapping between the two transports' refusals, as far as a client acts on it.
_STATUS_OF_HTTP: Final = {
    400: 3,
    401: 16,
    403: 7,
    404: 12,
    408: 4,
    413: 8,
    429: 14,
    502: 14,
    503: 14,
    504: 14,
}


class GrpcCollector:
    """A channel to a collector, opened when it is first used; it finds back by itself after an outage."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._channel: grpc.aio.Channel | None = None

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    async def send(self, path: str, headers: Headers, message: bytes) -> WireAnswer:
        """Return the collector's status and message; one that is away has the status UNAVAILABLE."""
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._open().unary_unary(path)
        call = method(message, timeout=self._timeout_s, metadata=_metadata(headers))
        try:
            content = await call
            return WireAnswer(200, _headers(await call.trailing_metadata()), content)
        except grpc.aio.AioRpcError as error:
            code = int(error.code().value[0])
            return WireAnswer(200, _headers(error.trailing_metadata()), b"", code, error.details() or "")

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:
            target = self._url.partition("://")[2]
            # No channel of another app in this process is shared, nor a proxy of the environment used.
            options = (
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.enable_http_proxy", 0),
                ("grpc.max_reconnect_backoff_ms", 5000),
                ("grpc.max_receive_message_length", -1),
            )
            if self._url.startswith("grpcs://"):
                credentials = grpc.ssl_channel_credentials()
                self._channel = grpc.aio.secure_channel(target, credentials, options)
            else:
                self._channel = grpc.aio.insecure_channel(target, options)
        return self._channel


def as_http_headers(headers: Headers) -> Headers:
    """Return a call's metadata as the headers of an OTLP/HTTP request with the same message."""
    kept = tuple(
        header for header in headers if not _is_of_grpc(header[0]) and not header[0].endswith(b"-bin")
    )
    return (*kept, (b"content-type", PROTOBUF))


def as_grpc_answer(answer: WireAnswer) -> WireAnswer:
    """Return an OTLP/HTTP answer as that of a call."""
    if 200 <= answer.status < 300:
        return WireAnswer(200, (), answer.body)
    code = _STATUS_OF_HTTP.get(answer.status, _UNKNOWN)
    return WireAnswer(200, (), b"", code, f"the collector answered {answer.status}")


def _is_of_grpc(name: bytes) -> bool:
    return name.startswith((b":", b"grpc-")) or name in (b"content-type", b"content-encoding")


def _metadata(headers: Headers) -> tuple[tuple[str, str | bytes], ...]:
    # The library says its own name as the user agent: it lets nobody else.
    return tuple(
        (name.decode(), value if name.endswith(b"-bin") else value.decode("latin-1"))
        for name, value in headers
        if not _is_of_grpc(name) and name != b"user-agent"
    )


def _headers(metadata: grpc.aio.Metadata | None) -> Headers:
    pairs = tuple(metadata) if metadata is not None else ()
    return tuple(
        (name.encode(), value if isinstance(value, bytes) else value.encode("latin-1"))
        for name, value in pairs
    )
