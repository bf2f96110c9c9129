"""The upstreams there are: the three that are built in, and what a setting adds or puts in their place."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final, cast
from urllib.parse import urlsplit

from tokentide_common.errors import TokentideError
from tokentide_common.providers import provider_named
from tokentide_proxy.exchange import Dialect, Upstream

# What stands in the paths of requests may not be what an upstream at `/`, or we ourselves, answer.
_RESERVED: Final = frozenset({"v1", "api", "healthz", "readyz", "metrics"})
_ENTRY: Final = re.compile(
    r"(?P<name>[a-z][a-z0-9-]{0,31})=(?P<dialect>anthropic|openai|gemini)(?P<flags>(?:\+private|\+usage)*)\+(?P<url>\S+)"
)
_OPENAI: Final = "openai"
BUILT_IN: Final = (
    "anthropic=anthropic+https://api.anthropic.com",
    "openai=openai+https://api.openai.com/v1",
    "gemini=gemini+https://generativelanguage.googleapis.com",
)


def upstreams(entries: Iterable[str]) -> tuple[Upstream, ...]:
    """Return the built-in upstreams and those of the setting; raises a `TokentideError` for what is none."""
    table = {entry.partition("=")[0]: _upstream(entry) for entry in BUILT_IN}
    for entry in entries:
        upstream = _upstream(entry)
        name = entry.partition("=")[0]
        if name in table and upstream.dialect != table[name].dialect:
            raise _invalid(entry, "this name is given, and to another dialect")
        table[name] = upstream
    return tuple(table.values())


def _upstream(entry: str) -> Upstream:
    parts = _ENTRY.fullmatch(entry)
    if parts is None:
        raise _invalid(entry, "it is not name=dialect+https://host/base")
    try:
        url = urlsplit(parts["url"])
        port = url.port
    except ValueError as error:
        raise _invalid(entry, "its address has no meaning") from error
    host = url.hostname or ""
    flags = parts["flags"].split("+")
    private = "private" in flags or _is_address(host)
    if url.scheme not in {"https", "http"} or not host or not (host + url.path).isascii():
        raise _invalid(entry, "its address is not https://host/base")
    if url.username is not None or url.query or url.fragment:
        raise _invalid(entry, "its address has more than a host, a port and a path")
    if url.scheme == "http" and not private:
        raise _invalid(entry, "plain http leads to private addresses only: dialect+private+http://host")
    if "usage" in flags and parts["dialect"] != "openai":
        raise _invalid(entry, "only openai's dialect has to be asked for usage")
    if parts["name"] in _RESERVED:
        raise _invalid(entry, "this name is taken by routes")
    at_root = parts["name"] == "anthropic"
    dialect = cast("Dialect", parts["dialect"])
    return Upstream(
        name="" if at_root else parts["name"],
        dialect=dialect,
        provider=provider_named(parts["name"]),
        scheme="https" if url.scheme == "https" else "http",
        host=host,
        port=port or (443 if url.scheme == "https" else 80),
        path=url.path.rstrip("/"),
        allow_private=private,
        # Others refuse a request with options that they do not know.
        asks_for_usage=parts["name"] == _OPENAI or "usage" in flags,
    )


def _is_address(host: str) -> bool:
    """Tell whether whoever configured it knew which address it is."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def _invalid(entry: str, why: str) -> TokentideError:
    name = entry.partition("=")[0][:32]
    return TokentideError(f"TOKENTIDE_PROXY_UPSTREAMS: {name!r}: {why}", code="invalid_settings")
