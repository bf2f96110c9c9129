"""From which address a request comes, for limits and for the audit log. Pure."""

from __future__ import annotations

import ipaddress


def client_address(peer: str, forwarded: str, trusted_proxies: int) -> str:
    """Return the client's address: of the connection, or as our own proxies tell it.

    Each proxy adds to `X-Forwarded-For` whom it was called by. What is left of what ours have added was said
    by the client, and is believed by nobody.
    """
    if trusted_proxies == 0:
        return peer
    told = [part.strip() for part in forwarded.split(",") if part.strip()]
    address = told[-trusted_proxies] if len(told) >= trusted_proxies else ""
    return address if _parsed(address) is not None else peer


def neighbourhood(address: str) -> str:
    """Return what is counted as one: an IPv4 address, or the network that an IPv6 customer gets."""
    parsed = _parsed(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address


def is_loopback(address: str) -> bool:
    """Tell whether an address is this machine's own."""
    parsed = _parsed(address)
    return parsed is not None and parsed.is_loopback


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        return None
