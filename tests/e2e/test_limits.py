"""What an answer says of limits on its way through the proxy is a gauge a moment later."""

from __future__ import annotations

from typing import Any

from infra.embedded import Embedded, Keys
from infra.sdk_programs import Target, anthropic_client, message
from infra.waiting import until


async def test_limits_told_to_a_program_are_shown_to_its_organisation(system: Embedded, keys: Keys) -> None:
    target = Target(system.ready["proxy"], "sk-own", {"x-tokentide-key": keys.proxy_key})
    with anthropic_client(target) as client:
        model = client.messages.create(**message("how full is it?")).model
    caller = system.caller(keys)

    def told() -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = caller.ask("limits")["items"]
        return items

    await until(told, within_s=60)
    (gauge,) = told()
    assert (gauge["provider"], gauge["kind"], gauge["model"]) == ("anthropic", "requests", model)
    assert (gauge["limit"], gauge["remaining"], gauge["utilization"]) == (1000, 999, "0.0010")
