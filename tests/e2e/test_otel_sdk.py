"""The official OpenTelemetry SDK delivers to a running system, and the numbers are right."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from infra.embedded import Caller, Embedded, Keys
from infra.otel_sdk import Program, Protocol
from infra.waiting import until

PROTOCOLS: tuple[Protocol, ...] = ("http", "grpc")
MODEL = "gpt-5.2"
CLAUDE = "claude-opus-4-5"
EVENT = {"model": CLAUDE, "input_tokens": 7, "output_tokens": 11, "duration_ms": 1200}


def now_and_around() -> dict[str, str]:
    """The SDK says when things happen: now."""
    now = datetime.now(UTC)
    return {"from": f"{now - timedelta(days=1):%Y-%m-%d}", "to": f"{now + timedelta(days=2):%Y-%m-%d}"}


def by_model(caller: Caller) -> dict[str, tuple[int, int, int]]:
    answer = caller.ask("usage/breakdown", by="model", **now_and_around())
    return {
        row["key"]["model"]: (row["calls"], row["input_tokens"], row["output_tokens"])
        for row in answer["rows"]
    }


def activity(caller: Caller) -> dict[str, str]:
    rows = caller.ask("activity", **now_and_around())["rows"]
    return {row["metric"]: row["value"] for row in rows}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_spans_events_and_metrics_are_counted_once(protocol: Protocol, system: Embedded, keys: Keys) -> None:
    program = Program(system.ready, protocol, keys.machine_key, service__name="agent", team__id="core")
    for number in range(200):
        program.call(f"resp_{number}", MODEL, input_tokens=number, output_tokens=2)
        program.event("api_request", session__id="s-1", request_id=f"req_{number}", **EVENT)
    program.event("api_request", session__id="s-1", request_id="req_0", **EVENT)
    program.count("claude_code.lines_of_code.count", [3, 4, 5], session__id="s-1", type="added")
    program.end()
    caller = system.caller(keys)
    assert by_model(caller) == {
        MODEL: (200, sum(range(200)), 400),
        CLAUDE: (200, 7 * 200, 11 * 200),
    }
    assert activity(caller) == {"lines_of_code": "12"}
    calls = caller.ask("calls", limit=500, **now_and_around())["items"]
    assert {call["team"] for call in calls} == {"core"}
    assert {tuple(call["sources"]) for call in calls} == {("otlp",)}


@pytest.mark.parametrize("span_first", [True, False])
async def test_a_span_that_knows_the_answer_and_a_log_that_knows_the_request_too_are_one_call(
    span_first: bool, system: Embedded, keys: Keys
) -> None:
    caller = system.caller(keys)
    event = {"call_id": "req_1", "message_id": "msg_1", "source": "cli", "model": CLAUDE, "project": "p"}
    body = {"events": [event | {"occurred_at": datetime.now(UTC).isoformat(), "output_tokens": 1}]}

    def log() -> None:
        address = f"{system.ready['ingest']}/api/v1/cli/batches"
        httpx.post(address, json=body, headers={"x-tokentide-key": keys.machine_key}).raise_for_status()

    def span() -> None:
        program = Program(system.ready, "http", keys.machine_key, service__name="agent")
        program.call("msg_1", CLAUDE, input_tokens=7, output_tokens=11)
        program.end()

    for tell in (span, log) if span_first else (log, span):
        tell()
    await until(lambda: by_model(caller) == {CLAUDE: (1, 7, 11)}, what="one call with what the span knows")
    for call_id in ("msg_1", "req_1"):
        call = caller.ask(f"calls/{call_id}")
        assert (call["call_id"], call["project"], call["sources"]) == ("req_1", "p", ["cli", "otlp"])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_program_of_this_machine_needs_no_key(protocol: Protocol, system: Embedded) -> None:
    caller = system.caller()
    before = by_model(caller).get(MODEL, (0, 0, 0))[0]
    program = Program(system.ready, protocol, service__name="agent")
    program.call(f"resp_keyless_{protocol}", MODEL, input_tokens=1, output_tokens=1)
    program.end()
    assert by_model(caller)[MODEL][0] == before + 1
    [call] = [
        call
        for call in caller.ask("calls", limit=500, **now_and_around())["items"]
        if call["call_id"].endswith(f"resp_keyless_{protocol}")
    ]
    assert call["user_id"] != ""


def test_exporters_outlast_a_system_that_is_killed_and_every_call_counts_once(own_system: Embedded) -> None:
    own_system.start()
    key = own_system.credentials["machine_key"]
    programs = [Program(own_system.ready, protocol, key, service__name="agent") for protocol in PROTOCOLS]

    def report(round_: str) -> list[Callable[[], None]]:
        """Report calls, and return what sends them."""
        for number, program in enumerate(programs):
            for call in range(50):
                program.call(f"resp_{round_}_{number}_{call}", MODEL, input_tokens=3, output_tokens=4)
        return [program.flush for program in programs]

    with ThreadPoolExecutor() as sending:
        for flush in report("before"):
            flush()
        own_system.kill()
        waiting = [sending.submit(flush) for flush in report("during")]
        own_system.start_again()
        for sent in waiting:
            sent.result(timeout=90)
    for program in programs:
        program.end()
    assert by_model(own_system.caller())[MODEL] == (200, 600, 800)
