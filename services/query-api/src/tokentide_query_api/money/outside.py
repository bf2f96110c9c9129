"""Requests to addresses that organisations name: out on the internet, never to what is near the service.

Whoever may name an address would else speak, from here, to the store and the databases of all organisations.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Final

import httpx

from tokentide_common.public_addresses import is_public, resolved

_PORTS: Final = {"http": 80, "https": 443}
_HOST: Final = re.compile(r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_-]{1,63}\.?")


class NotOutside(ValueError):
    """An address that is not out on the internet."""


def trouble_of(address: str) -> str:
    """Return why nothing can be sent to an address; empty where one may try. Pure."""
    try:
        url = httpx.URL(address)
        # Each of the two refuses names of its own.
        host = url.raw_host.decode("ascii") if url.host else ""
    except (httpx.InvalidURL, ValueError):
        return "is not a URL"
    if url.userinfo:
        return "has a user or password in it"
    if not 1 <= (url.port or 443) <= 65535:
        return "has no such port"
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "" if _HOST.fullmatch(host) else "has no such host"
    return ""


async def post_anywhere(
    client: httpx.AsyncClient,
    address: str | httpx.URL,
    body: bytes,
    headers: Mapping[str, str],
    extensions: Mapping[str, str] | None = None,
) -> int:
    """Post to an address and return the status. Raises what httpx raises."""
    told = client.stream("POST", address, content=body, headers=headers, extensions=dict(extensions or {}))
    # The body of the answer is left unread: without end it would take memory without end.
    async with told as answer:
        return answer.status_code


async def post_outside(
    client: httpx.AsyncClient, address: str, body: bytes, headers: Mapping[str, str]
) -> int:
    """Post out on the internet. Raises `NotOutside`, `OSError`, `ValueError` and what httpx raises."""
    url = httpx.URL(address)
    host = url.raw_host.decode()
    found = await resolved(host, url.port or _PORTS[url.scheme])
    outside = [one for one in found if is_public(one)]
    if not outside:
        raise NotOutside("a private or reserved address")
    refused: httpx.HTTPError = httpx.ConnectError("nothing was tried")
    for one in outside:
        try:
            # The guarantee: connected to is what was checked, whatever the name leads to a moment later.
            named = {**headers, "host": url.netloc.decode()}
            return await post_anywhere(
                client, url.copy_with(host=str(one)), body, named, {"sni_hostname": host}
            )
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            refused = error  # nothing was sent: the name's next address
    raise refused
