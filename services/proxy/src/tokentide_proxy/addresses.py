"""Which addresses a provider may have. What a name resolved to is checked, and only that is connected to."""

from __future__ import annotations

from tokentide_common.public_addresses import is_public, resolved
from tokentide_proxy.exchange import Upstream
from tokentide_proxy.upstream_errors import UpstreamRefusedAddress, UpstreamUnreachable


async def addresses_of(upstream: Upstream) -> list[str]:
    """Return the addresses to connect to, in the order of the resolver.

    Raises `UpstreamRefusedAddress` when the name leads only to addresses that no provider has, and
    `UpstreamUnreachable` when it leads nowhere.
    """
    try:
        found = await resolved(upstream.host, upstream.port)
    except (OSError, UnicodeError) as error:
        raise UpstreamUnreachable(f"the name {upstream.host!r} does not resolve") from error
    permitted = [address for address in found if upstream.allow_private or is_public(address)]
    if not permitted:
        raise UpstreamRefusedAddress(f"upstream {upstream.name!r} is at a private or reserved address")
    return [str(address) for address in permitted]
