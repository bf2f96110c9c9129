"""Slows down whoever asks too fast, before anything is looked at on their behalf."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

import structlog
from litestar.datastructures import Headers
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from tokentide_query_api.client_address import client_address
from tokentide_query_api.rate_limits import RateLimits, kind_of

_LIMITED: Final = "/api/"
_log = structlog.get_logger(__name__)


class AdmissionPace(ASGIMiddleware):
    """Counts each request of the API by its address, and notes that address as the client's."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, limits: Callable[[], RateLimits], trusted_proxies: int) -> None:
        self._limits = limits
        self._trusted_proxies = trusted_proxies
        self._warned = False

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Go on, or raise `RateLimited`."""
        http = cast("HTTPScope", scope)  # see `scopes`
        headers = Headers.from_scope(http)
        host, port = http["client"] or ("", 0)
        # A proxy may add a line of its own instead of going on with the client's: they are one list.
        forwarded = ", ".join(headers.getall("x-forwarded-for", []))
        if forwarded and not self._trusted_proxies and not self._warned:
            self._warned = True
            _log.warning("forwarded_header_ignored", setting="TOKENTIDE_TRUSTED_PROXIES")
        address = client_address(host, forwarded, self._trusted_proxies)
        http["client"] = (address, port)
        if http["path"].startswith(_LIMITED):
            query = http["query_string"].decode("latin-1")
            kind = kind_of(http["method"], http["path"], query, headers.get("accept", ""))
            await self._limits().admit_address(address, kind)
        await next_app(scope, receive, send)
