"""uvicorn's connection, with an end to how long a request's head may be and how long it may take.

Before a head is complete nobody knows who sends it: without a bound any stranger could fill the memory.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any, Final

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tokentide_common.problem import MEDIA_TYPE, problem

MAX_HEAD_BYTES: Final = 64 * 1024
"""A head that comes in one read of the socket may be as long as that read."""


class BoundedHead(HttpToolsProtocol):
    """Made by the server for each connection."""

    head_s = 30.0
    """Seconds from the beginning of a connection, or of a request on it, to the end of the request's head."""

    def __init__(self, *of_server: Any, **named: Any) -> None:  # noqa: ANN401 -- uvicorn's own
        super().__init__(*of_server, **named)
        self._head_bytes = 0
        self._in_head = True
        self._refused = False
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless it is too much of a head."""
        if self._refused:
            return
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes and not self.transport.is_closing():  # a head goes on
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse()
            elif self._late is None:
                self._wait_for_head()

    def on_headers_complete(self) -> None:
        """Take what follows for a body."""
        self._in_head, self._head_bytes = False, 0
        self._wait_no_more()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Take what follows for the next head, for which uvicorn itself waits until it begins."""
        self._in_head = True
        super().on_message_complete()

    def _wait_for_head(self) -> None:
        self._late = self.loop.call_later(self.head_s, self.transport.abort)

    def _wait_no_more(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _refuse(self) -> None:
        self._refused = True
        said = problem(
            "head_too_large",
            "Request headers too large",
            431,
            detail=f"the headers are over {MAX_HEAD_BYTES} bytes",
            instance=uuid.uuid4().hex,
        )
        body = msgspec.json.encode(said)
        head = (
            f"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
