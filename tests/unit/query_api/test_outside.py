"""What organisations name is called out on the internet, and never beside the service."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import httpx
import pytest

from tokentide_query_api.money.outside import NotOutside, post_outside, trouble_of


class Called:
    """Whom a client called, and who did not answer."""

    def __init__(self, *away: str) -> None:
        self.requests: list[httpx.Request] = []
        self._away = away

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.host in self._away:
            raise httpx.ConnectError("away")
        self.requests.append(request)
        return httpx.Response(204)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8123",
        "localhost",
        "127.1",
        "10.0.0.7",
        "169.254.169.254",
        "[::1]",
        "[::ffff:10.0.0.1]",
        "0",
    ],
)
async def test_nobody_beside_the_service_is_called(host: str) -> None:
    called = Called()
    async with called.client() as client:
        with pytest.raises((NotOutside, OSError)):
            await post_outside(client, f"http://{host}/?query=DROP", b"{}", {})
    assert called.requests == []


async def test_only_checked_addresses_of_a_name_are_called_under_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def resolver(_host: str, _port: int, **_options: Any) -> list[Any]:
        found = ["10.0.0.1", "2606:4700::6810:1", "1.1.1.1"]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolver)
    called = Called("2606:4700::6810:1")
    async with called.client() as client:
        answer = await post_outside(client, "https://hooks.example:8443/T0", b"{}", {"x-test": "1"})
    assert answer == 204
    (request,) = called.requests
    assert str(request.url) == "https://1.1.1.1:8443/T0"
    assert (request.headers["host"], request.headers["x-test"]) == ("hooks.example:8443", "1")
    assert request.extensions["sni_hostname"] == "hooks.example"


@pytest.mark.parametrize(
    ("url", "can_be"),
    [
        *(("https://hooks.example/T0/x", True), ("http://h:8080", True), ("https://[2606:4700::1]/", True)),
        *(("https://ann:pw@hooks.example/", False), ("http://[x/", False), ("http://a..b/", False)),
        *(("http://xn--/", False), ("http://h:99999/", False), ("http://%41/", False)),
    ],
)
def test_an_address_without_a_host_that_can_be_or_with_a_password_is_refused(url: str, can_be: bool) -> None:
    assert (trouble_of(url) == "") is can_be
