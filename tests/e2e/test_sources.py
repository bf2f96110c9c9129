"""One call seen by log and telemetry counts once, with the best of both, in whatever order they come."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from infra import manifests
from infra.embedded import Caller, Embedded, Keys, Machine
from infra.manifests import RUNS, session_dir
from infra.telemetry import Exporter, payloads
from infra.waiting import until

OLD = "24-old-1.0.128-slow"
"""Its telemetry has no request ids; what is one call by session, model, tokens and time is linked."""
OLD_HELPERS = {"req_011CiUg7ADhDiDqwEGsNi67H", "req_011CHH1EMGg3qPq7yEgxtLqo"}
"""Calls of the old version that its log lacks: no source knows their request ids."""
REFUSED = {"req_011CGF1q8wX8g1fMCfWkzCaA": "19-bad-request-400"}
"""The one failure that a client reports for all its attempts."""

Buckets = dict[str, int]


def completed() -> dict[str, dict[str, Any]]:
    """Every request of every capture that was answered to its end, by request id."""
    return {
        request["request_id"]: request
        for run in RUNS
        for request in manifests.manifest(run)["upstream_requests"]
        if request["status"] == 200 and request["completed"]
    }


def old_requests() -> set[str]:
    return {request["request_id"] for request in manifests.manifest(OLD)["upstream_requests"]}


def truth(requests: dict[str, dict[str, Any]]) -> dict[str, Buckets]:
    """Tokens and calls per model of these requests; cache writes as one bucket."""
    total: dict[str, Buckets] = {}
    for request in requests.values():
        used = request["usage"]
        said = {
            "calls": 1,
            "input_tokens": used["input_tokens"],
            "cache_read_tokens": used["cache_read_input_tokens"],
            "cache_writes": used["cache_creation_input_tokens"],
            "output_tokens": used["output_tokens"],
        }
        model = total.setdefault(request["model"], dict.fromkeys(said, 0))
        for name, number in said.items():
            model[name] += number
    return total


def counted(caller: Caller) -> dict[str, Buckets]:
    return {
        model: {
            "calls": row["calls"] - row["errors"],
            "input_tokens": row["input_tokens"],
            "cache_read_tokens": row["cache_read_tokens"],
            "cache_writes": row["cache_write_5m_tokens"] + row["cache_write_1h_tokens"],
            "output_tokens": row["output_tokens"],
        }
        for model, row in caller.by("model").items()
        if row["calls"] > row["errors"]
    }


class Developer:
    """One organisation with a machine that has the logs, and clients that export telemetry."""

    def __init__(self, system: Embedded, keys: Keys, home: Path) -> None:
        self.machine = Machine(home, system, keys)
        self.exporter = Exporter(system.ready, keys.machine_key)
        self.caller = system.caller(keys)

    def push_logs(self) -> None:
        ended = self.machine.push(*(session_dir(run) for run in RUNS), flags=("--resend",))
        assert (ended.code, ended.err, ended.json["rejected"]) == (0, "", 0)

    def push_log(self, run: str) -> None:
        ended = self.machine.push(session_dir(run), flags=("--resend",))
        assert (ended.code, ended.err) == (0, "")

    def export(self, *, shuffled: bool = False) -> None:
        sent = [payload for run in RUNS for payload in payloads(run)]
        self.exporter.send_all(random.sample(sent, len(sent)) if shuffled else sent)

    def log_first(self) -> None:
        self.push_logs()
        self.export()

    def telemetry_first(self) -> None:
        self.export()
        self.push_logs()

    def interleaved(self) -> None:
        """Logs of some runs between exports of all, in any order; the other logs at the end."""
        work = [partial(self.exporter.send, payload) for run in RUNS for payload in payloads(run)]
        work += [partial(self.push_log, run) for run in RUNS[::4]]
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda do: do(), random.sample(work, len(work))))
        self.push_logs()


@pytest.fixture
def developer(system: Embedded, keys: Keys, tmp_path: Path) -> Iterator[Developer]:
    made = Developer(system, keys, tmp_path / "developer")
    yield made
    made.exporter.close()


def calls_by_id(caller: Caller) -> dict[str, Any]:
    calls = caller.items("calls")
    assert len({call["call_id"] for call in calls}) == len(calls), "a call is listed twice"
    return {call["call_id"]: call for call in calls}


def test_telemetry_alone_is_the_truth_of_every_completed_call(developer: Developer) -> None:
    developer.export()
    developer.export(shuffled=True)
    assert counted(developer.caller) == truth(completed())
    calls = calls_by_id(developer.caller)
    named = {call_id for call_id in calls if call_id.startswith("req_")}
    assert named == completed().keys() - old_requests() | REFUSED.keys()
    assert len(calls) - len(named) == len(old_requests()), "without a request id each call has one of its own"


@pytest.mark.parametrize("order", [Developer.log_first, Developer.telemetry_first, Developer.interleaved])
async def test_log_and_telemetry_together_are_the_truth_in_any_order_and_twice(
    order: Callable[[Developer], None], developer: Developer
) -> None:
    for _ in range(2):
        order(developer)
        # What is linked afterwards, as the telemetry without ids is, takes one more turn through the topic.
        await until(lambda: counted(developer.caller) == truth(completed()))
    calls = calls_by_id(developer.caller)
    assert calls.keys() == completed().keys() - OLD_HELPERS | REFUSED.keys() | {
        call_id for call_id in calls if call_id.startswith("x_")
    }
    for call_id, request in completed().items():
        if call_id not in OLD_HELPERS:
            assert_best_of_both(calls[call_id], request)


def assert_best_of_both(call: dict[str, Any], request: dict[str, Any]) -> None:
    split = request["usage"]["cache_creation"]
    assert call["output_tokens"] == request["usage"]["output_tokens"]
    if "cli" in call["sources"]:
        # The log knows project and line, and how long each part of the cache lives.
        assert call["project"]
        assert call["message_id"] == request["message_id"]
        assert call["cache_write_1h_tokens"] == split["ephemeral_1h_input_tokens"]
        assert call["cache_write_5m_tokens"] == split["ephemeral_5m_input_tokens"]
    if "otlp" in call["sources"]:
        # Telemetry knows how long it took and what the client thought it cost.
        assert call["duration_ms"] > 0
        assert call["reported_cost_usd"] not in ("", "0")
    assert set(call["sources"]) & {"cli", "otlp"}
    assert "link" not in call["sources"]
