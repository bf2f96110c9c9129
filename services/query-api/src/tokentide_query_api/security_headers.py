"""What every answer tells browsers, whoever made it: a route, a refusal, a page that is not there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from litestar.datastructures import MutableScopeHeaders
from litestar.types import Message, Scope

_HEADERS: Final = {
    "cache-control": "private, no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_HTTPS_ONLY: Final = {"strict-transport-security": "max-age=31536000; includeSubDomains"}


def security_headers(public_url: str) -> Callable[[Message, Scope], Awaitable[None]]:
    """Return a hook that adds to each answer what it does not say itself."""
    added = {**_HEADERS, **(_HTTPS_ONLY if public_url.startswith("https://") else {})}

    async def add(message: Message, _scope: Scope) -> None:
        if message["type"] == "http.response.start":
            headers = MutableScopeHeaders.from_message(message)
            for name, value in added.items():
                headers.setdefault(name, value)

    return add
