"""Headers on their way through, by the book: what belongs to one connection stays there. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from tokentide_proxy.attribution import TRACKING_PREFIXES
from tokentide_proxy.exchange import Headers, Upstream

# RFC 9110, 7.6.1, and what older programs treat alike. Bodies are framed anew on each connection.
_OF_ONE_CONNECTION: Final = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding"),
        *(b"upgrade", b"proxy-authorization", b"proxy-authenticate"),
    }
)
# Who sits where in the client's network is nobody's business behind us.
_OF_THE_WAY_HERE: Final = (b"x-forwarded-", *TRACKING_PREFIXES)
# Whoever expects `100 Continue` has had it from us when the body is asked for.
_REPLACED: Final = _OF_ONE_CONNECTION | {b"host", b"forwarded", b"expect"}
_USUAL: Final = [b"keep-alive"]
_NO_BODY: Final = frozenset({204, 304})
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


def request_headers(headers: Headers, upstream: Upstream) -> Headers:
    """Return what goes to the upstream: all that is for it, in its order, and the upstream's own `host`."""
    dropped = _dropped(headers, _REPLACED)
    kept = [
        header
        for header in headers
        if (name := header[0]) not in dropped
        and not (name[:2] == b"x-" and name.startswith(_OF_THE_WAY_HERE))
    ]
    return [(b"host", _authority(upstream)), *kept]


def response_headers(headers: Headers, status: int) -> Headers:
    """Return what goes to the client, in its order and unchanged."""
    dropped = _dropped(headers, _OF_ONE_CONNECTION)
    if status in _NO_BODY:
        # It is the length of what is not sent, and the server would wait for that.
        dropped = dropped | {b"content-length"}
    return [header for header in headers if header[0] not in dropped]


def first(headers: Headers, name: bytes) -> bytes:
    """Return the first value of a header, b"" if there is none."""
    for known, value in headers:  # compiled, a generator takes several times as long
        if known == name:
            return value
    return b""


def _dropped(headers: Headers, always: frozenset[bytes]) -> frozenset[bytes]:
    last = dict(headers).get(b"connection")
    if last is None:
        return always
    listed = [value for name, value in headers if name == b"connection"]
    if listed == _USUAL:
        return always
    named = {name.strip().lower() for value in listed for name in value.split(b",")}
    # Whatever a connection claims: without its length the body would be another one.
    return always | (named - {b"content-length"})


@lru_cache(maxsize=256)
def _authority(upstream: Upstream) -> bytes:
    host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
    plain = upstream.port == _DEFAULT_PORTS[upstream.scheme]
    return (host if plain else f"{host}:{upstream.port}").encode("ascii")
