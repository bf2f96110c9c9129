"""Where alerts may go: not to every address that somebody writes down."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from typing import Final

import httpx

_HOST: Final = re.compile(r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_-]{1,63}\.?")


def trouble_of(text: str, *, internal_too: bool) -> str:
    """Return why nothing can be sent to a URL; empty where one may try. Pure."""
    try:
        url = httpx.URL(text)
        # Each of the two refuses names of its own.
        host = url.raw_host.decode("ascii") if url.host else ""
    except (httpx.InvalidURL, ValueError):
        return "is not a URL"
    if url.userinfo:
        return "has a user or password: a receiver knows us by the secret, or by the path"
    if not 1 <= (url.port or 443) <= 65535:
        return "has no such port"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "" if _HOST.fullmatch(host) else "has no such host"
    return "" if internal_too or is_public(address) else "is of an internal network"


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Tell whether an address is of the public internet. Pure."""
    plain = getattr(address, "ipv4_mapped", None) or address
    return plain.is_global and not plain.is_multicast


async def public_address(url: httpx.URL) -> str:
    """Return an address of the URL's host on the public internet; empty where it has none there.

    Raises `OSError` for a host that nobody knows.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(url.raw_host.decode("ascii"), None, type=socket.SOCK_STREAM)
    addresses = (str(told[0]) for *_, told in found)
    return next((text for text in addresses if is_public(ipaddress.ip_address(text))), "")
