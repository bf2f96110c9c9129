"""Sends requests to a collector over HTTP: the body and the headers as they are, the answer likewise."""

from __future__ import annotations

from typing import Final

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from tokentide_common.errors import Unavailable
from tokentide_ingest.otlp.forward_wire import Headers, WireAnswer, answer_headers

_CONNECTIONS: Final = 64
# What the client library would add on its own.
_NOT_OURS_TO_SAY: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class HttpCollector:
    """A pool of connections to a collector; open it inside the event loop that uses it."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, url: str, method: str, headers: Headers, body: bytes) -> WireAnswer:
        """Return the collector's answer, whatever it says; raises `Unavailable` where there is none."""
        try:
            try:
                return await self._send(url, method, headers, body)
            except (aiohttp.ServerDisconnectedError, ConnectionResetError):
                # A kept connection may close just as it is used again. Telemetry may be sent twice.
                return await self._send(url, method, headers, body)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise Unavailable(
                f"the collector gives no answer: {type(error).__name__}", code="collector_unavailable"
            ) from error

    async def _send(self, url: str, method: str, headers: Headers, body: bytes) -> WireAnswer:
        named = CIMultiDict(
            (name.decode("latin-1"), value.decode(errors="replace")) for name, value in headers
        )
        async with self._open().request(
            method,
            URL(url, encoded=True),
            headers=named,
            data=body,
            allow_redirects=False,
            skip_auto_headers=_NOT_OURS_TO_SAY,
        ) as answer:
            content = await answer.read()
            raw = tuple((name.lower(), value) for name, value in answer.raw_headers)
            return WireAnswer(answer.status, answer_headers(raw, content, answer.status), content)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                auto_decompress=False,
            )
        return self._session
