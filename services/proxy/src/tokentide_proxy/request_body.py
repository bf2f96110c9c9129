"""Sends a body beside the reading of its answer, no faster than the upstream takes it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from tokentide_common.errors import InvalidRequest
from tokentide_proxy.upstream_request import UpstreamRequest


class Sink(Protocol):
    """The connection that a body goes to."""

    def write(self, data: bytes) -> None:
        """Send."""

    async def drain(self) -> None:
        """Wait until the upstream takes more."""

    def request_sent(self) -> None:
        """The request is complete."""

    def fail(self, error: BaseException) -> None:
        """The request cannot be completed: nor can its answer."""


async def send_body(sink: Sink, request: UpstreamRequest) -> None:
    """Send the body of a request whose head has been sent. Whatever goes wrong ends the exchange."""
    assert request.stream is not None, "what is whole is sent with its head"
    try:
        if request.length is None:
            await _send_chunks(sink, request.stream)
        else:
            await _send_exactly(sink, request.stream, request.length)
    except Exception as error:
        # Most often the client has gone: what it did not send cannot be made up.
        sink.fail(error)
    else:
        sink.request_sent()


async def _send_chunks(sink: Sink, body: AsyncIterator[bytes]) -> None:
    async for piece in body:
        if piece:  # an empty chunk would be the end
            sink.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await sink.drain()
    sink.write(b"0\r\n\r\n")


async def _send_exactly(sink: Sink, body: AsyncIterator[bytes], length: int) -> None:
    left = length
    async for piece in body:
        left -= len(piece)
        if left < 0:
            break
        if piece:
            sink.write(piece)
            await sink.drain()
    if left:
        # More would be read as the next request on this connection, less as the start of it.
        raise InvalidRequest("the body is not as long as its content-length says")
