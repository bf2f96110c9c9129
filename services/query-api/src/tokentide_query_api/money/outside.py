"""Requests to addresses that organisations name: out on the internet, never to what is near the service.

Whoever may name an address would else speak, from here, to the store and the databases of all organisations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import httpx

from tokentide_common.public_addresses import is_public, resolved

_PORTS: Final = {"http": 80, "https": 443}


class NotOutside(ValueError):
    """An address that is not out on the internet."""


async def post_outside(
    client: httpx.AsyncClient, address: str, body: bytes, headers: Mapping[str, str]
) -> httpx.Response:
    """Post to an address. Raises `NotOutside`, `OSError`, `ValueError` and what httpx raises."""
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
            return await client.post(
                url.copy_with(host=str(one)),
                content=body,
                headers={**headers, "host": url.netloc.decode()},
                extensions={"sni_hostname": host},
            )
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            refused = error  # nothing was sent: the name's next address
    raise refused
