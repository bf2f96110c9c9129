"""What is said of headers that claim an address."""

from __future__ import annotations

import pytest
from litestar import Litestar, get
from litestar.testing import AsyncTestClient
from structlog.testing import capture_logs

from tokentide_query_api.admission_pace import AdmissionPace


@get("/", sync_to_thread=False)
def anything() -> None: ...


@pytest.mark.parametrize(("trusted", "warnings"), [(0, 1), (1, 0)])
async def test_whoever_forgot_to_trust_their_own_proxy_is_told_once(trusted, warnings):
    app = Litestar([anything], middleware=[AdmissionPace(lambda: None, trusted)], logging_config=None)
    with capture_logs() as logged:
        async with AsyncTestClient(app) as client:
            for _ in range(3):
                await client.get("/", headers={"x-forwarded-for": "192.0.2.1"})
    assert [line["event"] for line in logged] == ["forwarded_header_ignored"] * warnings
