"""What is acknowledged as stored is in every answer at once: no question here is asked twice."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from infra import manifests
from infra.embedded import BATCHES, Embedded, Keys, Machine

ONE_CALL = "01-basic-json"


def event(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "call_id": f"req_fresh_{number}",
        "source": "cli",
        "occurred_at": datetime(2026, 11, 22, 11, tzinfo=UTC).isoformat(),
        "provider": "anthropic",
        "model": "claude-opus-4-5",
        "output_tokens": 5,
    } | fields


def test_a_call_that_was_pushed_and_waited_for_is_counted_and_seen_at_once(
    system: Embedded, keys: Keys, machine: Callable[[str], Machine]
) -> None:
    caller = system.caller(keys)
    pushed = machine("laptop").push(manifests.session_dir(ONE_CALL), flags=("--wait", "60"))
    assert pushed.json["verdicts"] == {"counted": 1}
    assert caller.summary()["calls"] == 1
    assert len(caller.items("calls")) == 1
    assert [s["calls"] for s in caller.items("sessions")] == [1]
    again = machine("laptop").push(manifests.session_dir(ONE_CALL), flags=("--wait", "60", "--resend"))
    assert again.json["verdicts"] == {"duplicate": 1}


def test_every_verdict_is_true_in_the_next_answer(system: Embedded, keys: Keys) -> None:
    caller, sender = system.caller(keys), system.sender(keys)

    def send(*events: dict[str, Any]) -> list[str]:
        answer = sender.post(BATCHES, json={"events": events}, headers={"prefer": "wait=60"})
        assert (answer.status_code, answer.json()["stored"]) == (200, True)
        return answer.json()["verdicts"]

    for number in range(10):
        assert send(event(number)) == ["counted"]
        summary = caller.summary()
        assert (summary["calls"], summary["output_tokens"]) == (number + 1, 5 * (number + 1))
        assert caller.ask(f"calls/req_fresh_{number}")["output_tokens"] == 5
    # The end of a streamed call says more than its beginning: the record is the larger one, counted once.
    assert send(event(3, output_tokens=50), event(4), event(10)) == ["upgraded", "duplicate", "counted"]
    summary = caller.summary()
    assert (summary["calls"], summary["output_tokens"]) == (11, 5 * 10 + 50)
    assert caller.ask("calls/req_fresh_3")["output_tokens"] == 50


def test_embedded_ingest_acknowledges_only_what_is_stored_also_without_being_asked(
    system: Embedded, keys: Keys
) -> None:
    caller, sender = system.caller(keys), system.sender(keys)
    for number in range(5):
        assert sender.post(BATCHES, json={"events": [event(number)]}).status_code == 202
        assert caller.summary()["calls"] == number + 1


@pytest.mark.parametrize("side", ["ingest", "query"])
def test_an_unknown_key_is_refused_as_a_problem(side: str, system: Embedded) -> None:
    url = system.ready[side]
    path, method = (BATCHES, "POST") if side == "ingest" else ("/api/v1/usage/summary", "GET")
    for key in ("", "tt_m_wrong", system.credentials["proxy_key"]):
        headers = {"authorization": f"Bearer {key}"} if key else {}
        answer = httpx.request(method, url + path, headers=headers, verify=False)
        assert answer.status_code == 401
        assert answer.headers["content-type"].startswith("application/problem+json")
        problem = answer.json()
        assert (problem["status"], problem["code"]) == (401, "unauthorized")
        assert {"type", "title", "detail", "instance"} <= problem.keys()
        assert not key or key not in answer.text
