"""A provider lives out on the internet, whatever its name leads to, unless settings say otherwise."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

import pytest

from infra.raw_upstream import RawUpstream, ok
from infra.upstream_exchange import HEADERS, named, read, upstream_client
from tokentide_common.public_addresses import is_public
from tokentide_proxy.upstream_errors import UpstreamRefusedAddress, UpstreamUnreachable

NOT_PUBLIC = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.9.9.9",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::10.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]
PUBLIC = ["1.1.1.1", "160.79.104.10", "2606:4700::6810:1", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_no_provider_lives_at_an_address_of_a_network(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_a_provider_may_live_at_any_other_address(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "::ffff:127.0.0.1", "0.0.0.0", "127.1"])
async def test_no_connection_is_made_to_this_machine_unless_settings_permit_it(host: str) -> None:
    upstream = RawUpstream([ok()])
    async with upstream, upstream_client() as client:
        where = named(upstream.port, host=host, allow_private=False)
        with pytest.raises(UpstreamRefusedAddress) as caught:
            await client.send(where, b"GET", b"/", HEADERS)
    assert caught.value.word == "upstream_refused_address"
    assert upstream.accepts == 0


async def test_a_connection_made_where_it_was_permitted_is_not_lent_where_it_is_not() -> None:
    upstream = RawUpstream([ok()])
    async with upstream, upstream_client() as client:
        await read(await client.send(named(upstream.port), b"GET", b"/", HEADERS))
        with pytest.raises(UpstreamRefusedAddress):
            await client.send(named(upstream.port, allow_private=False), b"GET", b"/", HEADERS)


async def test_a_name_is_resolved_once_and_only_permitted_addresses_are_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a name resolves to can change between a check and a connection: so there is only one look."""
    asked: list[str] = []
    tried: list[str] = []
    loop = asyncio.get_running_loop()
    if type(loop).__module__.startswith("uvloop"):
        pytest.skip("uvloop's methods cannot be watched; the code is the same")

    async def getaddrinfo(host: str, port: int, **_: object) -> list[object]:
        asked.append(host)
        found = ["169.254.169.254", "1.1.1.1", "10.0.0.1", "1.1.1.1", "1.0.0.1"]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    async def create_connection(_: object, host: str, *__: object, **___: object) -> None:
        tried.append(host)
        raise ConnectionRefusedError

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(loop, "create_connection", create_connection)
    async with upstream_client() as client:
        where = named(443, host="rebinding.example", scheme="https", allow_private=False)
        with pytest.raises(UpstreamUnreachable):
            await client.send(where, b"GET", b"/", HEADERS)
    assert (asked, tried) == (["rebinding.example"], ["1.1.1.1", "1.0.0.1"])


async def test_a_name_that_leads_nowhere_is_unreachable() -> None:
    async with upstream_client() as client:
        for host in ("no-such-name.invalid", "a" * 80 + ".invalid", "a..b"):
            with pytest.raises(UpstreamUnreachable):
                await client.send(named(443, host=host), b"GET", b"/", HEADERS)


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with RawUpstream([ok()]) as upstream, upstream_client() as client:
        assert (await read(await client.send(named(upstream.port), b"GET", b"/", HEADERS))).body == b"ok"


async def test_redirects_are_answers_like_any_other() -> None:
    away = b"HTTP/1.1 307 Elsewhere\r\nlocation: http://elsewhere.example/\r\ncontent-length: 0\r\n\r\n"
    async with RawUpstream([away]) as upstream, upstream_client() as client:
        seen = await read(await client.send(named(upstream.port), b"POST", b"/", HEADERS, b"1"))
    assert (seen.status, len(upstream.requests)) == (307, 1)
