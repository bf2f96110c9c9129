"""Who is on this machine: for doors that know its user without a key."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Final

# Who sends one of these is a proxy, which speaks for somebody elsewhere, or a page in a browser.
_NOT_LOCAL: Final = frozenset(
    {"forwarded", "origin", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"}
)


def is_local(header_names: Collection[str], peer: str) -> bool:
    """Tell whether a request comes from a program on this machine itself.

    `peer` is the address of the connection, and no header's word for it; header names are in lower case.
    """
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback and _NOT_LOCAL.isdisjoint(header_names)
