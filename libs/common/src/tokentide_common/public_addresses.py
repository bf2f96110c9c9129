"""Which addresses are out on the internet: what others name is connected to there, and nowhere else."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterator
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_NOT_GLOBAL: Final = (
    ipaddress.IPv4Network("192.0.0.0/24"),  # assigned to protocols
    ipaddress.IPv4Network("192.88.99.0/24"),  # relays between IPv4 and IPv6
    ipaddress.IPv6Network("::/96"),  # IPv4 in its oldest disguise, unspecified and loopback
    ipaddress.IPv6Network("64:ff9b:1::/48"),  # NAT64 within one network
)


def is_public(address: Address) -> bool:
    """Tell whether an address is out on the internet, also the IPv4 one that hides in an IPv6 one."""
    if isinstance(address, ipaddress.IPv6Address) and (inner := list(_inner(address))):
        return all(is_public(hidden) for hidden in inner)
    site_local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    reserved = address.is_multicast or address.is_reserved or site_local
    return address.is_global and not reserved and not any(address in network for network in _NOT_GLOBAL)


def _inner(address: ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address in _NAT64:
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)


async def resolved(host: str, port: int) -> list[Address]:
    """Return the addresses of a name, in the order of the resolver. Raises `OSError` or `UnicodeError`."""
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        pass  # a name, then
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # The same address can come several times; the first place counts.
    return [ipaddress.ip_address(address) for address in dict.fromkeys(str(info[4][0]) for info in found)]
