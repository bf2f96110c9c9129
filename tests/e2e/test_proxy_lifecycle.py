"""Calls that went through the proxy outlive the death of the system, and its keys and doors are as set."""

from __future__ import annotations

import signal

import httpx

from e2e.test_lifecycle import DRAIN_S
from e2e.test_proxy_sdks import listed
from infra.embedded import Embedded
from infra.fake_provider import FakeProvider
from infra.sdk_programs import message
from infra.waiting import until

CALLS = 25


def in_memory(proxy: httpx.Client) -> int:
    """How many events a death would take along now."""
    page = proxy.get("/metrics").text
    (line,) = (line for line in page.splitlines() if line.startswith("tokentide_proxy_events_buffered "))
    return int(float(line.split()[1]))


async def test_noted_calls_outlive_a_kill_and_without_a_key_only_this_machine_is_let_in_if_anybody(
    own_system: Embedded,
) -> None:
    with FakeProvider() as provider:
        settings = {"TOKENTIDE_PROXY_UPSTREAMS": provider.upstreams}
        own_system.start(**settings, TOKENTIDE_PROXY_LOOPBACK_KEY="none")
        secret = (own_system.data_dir / "secret.key").read_bytes()
        ours = {"x-tokentide-key": own_system.credentials["proxy_key"], "x-api-key": "sk-ant"}
        with httpx.Client(base_url=own_system.ready["proxy"], verify=False, timeout=30) as proxy:
            for number in range(CALLS):
                answer = proxy.post("/v1/messages", json=message(f"call {number}"), headers=ours)
                assert answer.status_code == 200
            refused = proxy.post("/v1/messages", json=message("no key"), headers={"x-api-key": "sk-ant"})
            assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")
            await until(lambda: in_memory(proxy) == 0)
            own_system.kill()

        own_system.start_again(**settings)
        assert (own_system.data_dir / "secret.key").read_bytes() == secret
        caller = own_system.caller()
        noted = {answer.message_id for answer in provider.account}
        assert len(noted) == CALLS
        await until(lambda: listed(caller).keys() == noted)
        with httpx.Client(base_url=own_system.ready["proxy"], verify=False, timeout=30) as proxy:
            mine = proxy.post("/v1/messages", json=message("no key"), headers={"x-api-key": "sk-ant"})
            assert mine.status_code == 200
            # From elsewhere, as whoever stands in front of us says.
            others = {"x-api-key": "sk-ant", "x-forwarded-for": "198.51.100.7"}
            assert proxy.post("/v1/messages", json=message("theirs"), headers=others).status_code == 401
            # A connection that is kept open and idle holds nothing up, and what was just seen is counted.
            assert own_system.end(signal.SIGTERM, within_s=DRAIN_S) == 0
        assert "Traceback" not in own_system.err
        own_system.start_again(**settings)
        caller = own_system.caller()
        await until(lambda: listed(caller).keys() == noted | {mine.json()["id"]})
