"""Asking for the usage of a streamed chat, and hiding from the client what it did not ask for."""

from __future__ import annotations

from typing import Final

from tokentide_proxy.client_body import ClientBody
from tokentide_proxy.exchange import Headers
from tokentide_proxy.headers import first
from tokentide_proxy.routing import Route
from tokentide_proxy.usage.injection import inject_include_usage
from tokentide_proxy.usage.usage_chunk import UsageChunkFilter

# To be rewritten a body is held as a whole; longer ones go through as they are.
_MAX_HELD_BYTES: Final = 8 * 1024 * 1024
_PATH: Final = b"/chat/completions"


async def ask_for_usage(route: Route, method: bytes, headers: Headers, body: ClientBody) -> Headers | None:
    """Rewrite the body so that usage is asked for; return the headers for that, None if nothing changes."""
    if not may_ask_for_usage(route, method, headers):
        return None
    await body.gather(_MAX_HELD_BYTES)
    asking = None if body.whole is None else asking_for_usage(headers, body.whole)
    if asking is None:
        return None
    changed, body.whole = asking
    return changed


def may_ask_for_usage(route: Route, method: bytes, headers: Headers) -> bool:
    """Return whether it depends on its body if a request has to be rewritten."""
    return (
        route.upstream.asks_for_usage
        and method == b"POST"
        and route.target.partition(b"?")[0].endswith(_PATH)
        and not first(headers, b"content-encoding")
    )


def asking_for_usage(headers: Headers, body: bytes) -> tuple[Headers, bytes] | None:
    """Return headers and body that ask for usage, None if nothing changes."""
    asking = inject_include_usage(body)
    if asking is None:
        return None
    changed = (b"content-length", b"accept-encoding")
    kept = [header for header in headers if header[0] not in changed]
    # What is compressed could not be taken out again.
    length = (b"content-length", b"%d" % len(asking))
    return [*kept, length, (b"accept-encoding", b"identity")], asking


def usage_hidden(status: int, headers: Headers) -> tuple[UsageChunkFilter | None, Headers]:
    """Return what hides the extra chunk of an answer, if it can be in there, and the answer's headers."""
    streamed = b"text/event-stream" in first(headers, b"content-type").lower()
    if status != 200 or not streamed or first(headers, b"content-encoding") not in {b"", b"identity"}:
        return None, headers
    return UsageChunkFilter(), [header for header in headers if header[0] != b"content-length"]
