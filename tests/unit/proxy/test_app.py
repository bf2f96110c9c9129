"""The proxy of this version: it forwards nothing, says so, and is as observable as every service."""

from __future__ import annotations

import pytest
from litestar.testing import AsyncTestClient

from tokentide_proxy.app import create_app
from tokentide_proxy.settings import ProxySettings


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("POST", "/v1/messages"), ("POST", "/openai/v1/responses"), ("DELETE", "/gemini/x")],
)
async def test_a_client_pointed_at_the_proxy_learns_that_it_forwards_nothing(method: str, path: str) -> None:
    async with AsyncTestClient(create_app(ProxySettings())) as client:
        answer = await client.request(method, path, content=b"{", headers={"x-request-id": "request-1"})
    assert answer.status_code == 501
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["code"], problem["status"], problem["instance"]) == (
        "not_available_yet",
        501,
        "request-1",
    )


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_the_proxy_can_be_watched(path: str) -> None:
    async with AsyncTestClient(create_app(ProxySettings())) as client:
        answer = await client.get(path)
    assert answer.status_code == 200
