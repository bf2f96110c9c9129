"""Which upstream a request goes to, told by its path alone, and under which target it goes there. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import msgspec

from tokentide_proxy.exchange import Upstream

# A path that climbs could leave the part of a gateway that was configured. Some servers take escaped slashes
# and backslashes for what divides a path, and drop what follows a semicolon.
_CLIMBS: Final = re.compile(rb"(?:[/\\]|%2f|%5c)(?:\.|%2e){1,2}(?:[/\\;]|%2f|%5c|%3b|$)", re.IGNORECASE)
_ORIGIN_FORM: Final = re.compile(rb"/[!-\"$-~]*")
_VERSION: Final = b"/v1"
_REMEMBERED: Final = 1024
_AT_ROOT: Final = (b"/v1/", b"/api/hello")


class Route(msgspec.Struct, frozen=True, gc=False):
    """Where a request goes."""

    upstream: Upstream
    target: bytes
    """As it is sent: path and query, not re-encoded."""


class Routes:
    """The table of upstreams. One of them may be at `/`; each other one is at `/<its name>/`."""

    def __init__(self, upstreams: Iterable[Upstream]) -> None:
        self._by_segment = {upstream.name.encode("ascii"): upstream for upstream in upstreams}
        self._at_root = self._by_segment.pop(b"", None)
        # Of paths alone, which are few: a query can have a key in it.
        self._remembered = lru_cache(maxsize=_REMEMBERED)(self._route)

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """All of them."""
        at_root = () if self._at_root is None else (self._at_root,)
        return (*at_root, *self._by_segment.values())

    def find(self, target: bytes) -> Route | None:
        """Return where a request target leads, None where to nowhere."""
        return self._route(target) if b"?" in target else self._remembered(target)

    def _route(self, target: bytes) -> Route | None:
        path, question_mark, query = target.partition(b"?")
        if _ORIGIN_FORM.fullmatch(target) is None or _CLIMBS.search(path) is not None:
            return None
        upstream, path = self._split(path)
        if upstream is None:
            return None
        return Route(upstream, upstream.path.encode("ascii") + path + question_mark + query)

    def _split(self, path: bytes) -> tuple[Upstream | None, bytes]:
        if path.startswith(_AT_ROOT[0]) or path == _AT_ROOT[1]:
            return self._at_root, path
        segment, slash, rest = path[1:].partition(b"/")
        upstream = self._by_segment.get(segment)
        if upstream is None or not slash:
            return None, path
        inner = slash + rest
        # The base address of these has the version in it already, and so has, or has not, the client's.
        if upstream.dialect == "openai" and inner.startswith(b"/v1/"):
            inner = inner.removeprefix(_VERSION)
        return upstream, inner
