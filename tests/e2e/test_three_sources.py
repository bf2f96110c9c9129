"""One call seen by log, telemetry and proxy counts once, with the best of all three, in any order.

The recorded answers of the provider go through the proxy again, to clients that ask as the recorded ones did.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.test_sources import OLD, Buckets, Developer, truth
from infra import manifests
from infra.embedded import Caller, Embedded, Keys
from infra.fake_provider import FakeProvider
from infra.manifests import RUNS
from infra.recorded_exchanges import Exchange, exchanges
from infra.telemetry import Exporter, payloads
from infra.waiting import until

# What goes through the proxy goes through it now, long after the capture, which is all of one month.
EVER = {"from": "2020-01-01", "to": "2040-01-01"}
EXCHANGES = [
    # Its telemetry names no request: what is one call is told by the time of day.
    one
    for one in exchanges()
    if not one.name.startswith(f"claude-code/{OLD}/")
]
PREFIXES = {"anthropic": "", "openai": "/openai", "gemini": "/gemini"}
_OF_A_CONNECTION = {b"host", b"content-length", b"connection", b"transfer-encoding", b"authorization"}


def of(client: str) -> list[Exchange]:
    return [one for one in EXCHANGES if one.name.startswith(f"{client}/")]


def accounts(client: str, *, completed: bool) -> dict[str, dict[str, Any]]:
    """What the provider says of its answers to a client, by call id."""
    told = [one.truth() for one in of(client)]
    return {
        one.get("response_id") or one["request_id"]: one
        for one in told
        if one is not None and (one["status"] == 200 and one.get("completed", True)) is completed
    }


def expected() -> dict[str, Buckets]:
    """The truth of every completed call, and of those that broke off what was known at their start."""
    total = truth(accounts("claude-code", completed=True))
    begun = [one for one in accounts("claude-code", completed=False).values() if one["status"] == 200]
    for one in begun:
        for model, told in truth({"begun": one | {"usage": one["message_start_usage"]}}).items():
            total[model] = {name: total[model][name] + told[name] * (name != "calls") for name in told}
    return total


def counted(caller: Caller) -> dict[str, Buckets]:
    answer = caller.ask("usage/breakdown", by="model", limit=500, **EVER)
    return {
        row["key"]["model"]: {
            "calls": row["calls"] - row["errors"],
            "input_tokens": row["input_tokens"],
            "cache_read_tokens": row["cache_read_tokens"],
            "cache_writes": row["cache_write_5m_tokens"] + row["cache_write_1h_tokens"],
            "output_tokens": row["output_tokens"],
        }
        for row in answer["rows"]
        if row["calls"] > row["errors"]
    }


def listed(caller: Caller) -> dict[str, dict[str, Any]]:
    items = caller.ask("calls", limit=500, **EVER)["items"]
    calls = {call["call_id"]: call for call in items}
    assert len(calls) == len(items), "a call is listed twice"
    return calls


class Replay:
    """The clients' requests, sent through the proxy."""

    def __init__(self, system: Embedded, provider: FakeProvider, keys: Keys) -> None:
        provider.replays.update({one.name: one for one in EXCHANGES})
        self._client = httpx.Client(base_url=system.ready["proxy"], timeout=60, verify=False)
        self._key = keys.proxy_key

    def send(self, exchange: Exchange) -> None:
        """Ask as it was asked, and get what was answered, byte for byte."""
        own = [(name, value) for name, value in exchange.request_headers if name not in _OF_A_CONNECTION]
        ours = [(b"x-replay", exchange.name.encode()), (b"x-tokentide-key", self._key.encode())]
        request = self._client.build_request(
            exchange.method,
            PREFIXES[exchange.dialect] + exchange.path,
            headers=[*own, *ours, (b"x-api-key", b"sk-CANARY-of-the-user")],
            content=exchange.request_body,
        )
        answer = self._client.send(request, stream=True)
        read = b""
        try:
            for piece in answer.iter_raw():
                read += piece
        except httpx.RemoteProtocolError:
            assert not (exchange.truth() or {}).get("completed", True), "it came to its end"
        answer.close()
        assert (answer.status_code, read) == (exchange.status, exchange.body)

    def close(self) -> None:
        self._client.close()


class Office(Developer):
    """A developer whose calls go through the proxy, too."""

    def __init__(self, system: Embedded, keys: Keys, home: Path, replay: Replay) -> None:
        super().__init__(system, keys, home)
        self._replay = replay

    def call(self) -> None:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(self._replay.send, of("claude-code")))

    def proxy_last(self) -> None:
        self.push_logs()
        self.export()
        self.call()

    def proxy_first(self) -> None:
        self.call()
        self.export()
        self.push_logs()

    def all_at_once(self) -> None:
        work: list[Callable[[], None]] = [partial(self._replay.send, one) for one in of("claude-code")]
        work += [partial(self.exporter.send, payload) for run in RUNS for payload in payloads(run)]
        work += [partial(self.push_log, run) for run in RUNS[::9]]
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(lambda do: do(), random.sample(work, len(work))))
        self.push_logs()


@pytest.fixture
def replay(system: Embedded, provider: FakeProvider, keys: Keys) -> Iterator[Replay]:
    made = Replay(system, provider, keys)
    yield made
    made.close()


@pytest.fixture
def office(system: Embedded, keys: Keys, tmp_path: Path, replay: Replay) -> Iterator[Office]:
    made = Office(system, keys, tmp_path / "developer", replay)
    yield made
    made.exporter.close()


async def test_the_proxy_alone_is_the_truth_of_every_call_that_passed(office: Office) -> None:
    office.call()
    caller = office.caller
    await until(lambda: counted(caller) == expected())
    calls = await until(lambda: len(found := listed(caller)) == len(of("claude-code")) and found)
    for call_id, account in accounts("claude-code", completed=True).items():
        split = account["usage"]["cache_creation"]
        assert calls[call_id]["cache_write_1h_tokens"] == split["ephemeral_1h_input_tokens"]
        assert calls[call_id]["cache_write_5m_tokens"] == split["ephemeral_5m_input_tokens"]
        assert calls[call_id]["session_id"] == account["session_header"]
        assert calls[call_id]["message_id"] == account["message_id"]
    for call_id, account in accounts("claude-code", completed=False).items():
        status = "aborted" if account["status"] == 200 else "error"
        assert (calls[call_id]["status"], calls[call_id]["http_status"]) == (status, account["status"])


@pytest.mark.parametrize("order", [Office.proxy_last, Office.proxy_first, Office.all_at_once])
async def test_log_telemetry_and_proxy_together_are_the_truth_in_any_order(
    order: Callable[[Office], None], office: Office
) -> None:
    order(office)
    caller, total = office.caller, expected()
    for model, told in truth_of_the_old().items():
        # Seen by log and telemetry only.
        total[model] = told
    completed = accounts("claude-code", completed=True)
    # What the proxy saw arrives after the client has its answer, and need not change a number.
    calls = await until(lambda: seen_by_both(listed(caller), completed))
    await until(lambda: counted(caller) == total)
    seen = {call_id: set(calls[call_id]["sources"]) for call_id in completed}
    assert sum("cli" in sources for sources in seen.values()) > len(seen) * 3 / 4
    for call_id, account in completed.items():
        assert calls[call_id]["output_tokens"] == account["usage"]["output_tokens"]
        if "cli" in seen[call_id]:
            assert calls[call_id]["project"]
        assert calls[call_id]["reported_cost_usd"] not in ("", "0")
    days = caller.ask("coverage/days", **EVER)["total"]
    assert min(days["seen_by"][source] for source in ("cli", "otlp", "proxy")) > 0
    everywhere = [
        one for one in caller.ask("coverage", limit=500, **EVER)["items"] if one["seen_by"]["proxy"]
    ]
    assert {one["session_id"] for one in everywhere} >= {one["session_header"] for one in completed.values()}
    assert not any(one["possible_doubles"] for one in everywhere)


def seen_by_both(calls: dict[str, dict[str, Any]], completed: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The calls, once telemetry and the proxy have told of every completed one."""
    known = [calls.get(call_id, {"sources": []})["sources"] for call_id in completed]
    return calls if all({"otlp", "proxy"} <= set(sources) for sources in known) else {}


def truth_of_the_old() -> dict[str, Buckets]:
    requests = manifests.manifest(OLD)["upstream_requests"]
    return truth({one["request_id"]: one for one in requests})


async def test_the_other_clients_calls_are_exact_and_joined_with_telemetry_that_names_them(
    system: Embedded, keys: Keys, replay: Replay
) -> None:
    exporter, caller = Exporter(system.ready, keys.machine_key), system.caller(keys)
    told: dict[str, dict[str, Any]] = {}
    for client in ("codex", "gemini-cli", "opencode"):
        for exchange in of(client):
            replay.send(exchange)
        told |= accounts(client, completed=True)
    # Codex's own telemetry names no call: like that of the old Claude Code it goes by the time of day.
    for payload in payloads("01-prompt-http", "gemini-cli"):
        exporter.send(payload)
    exporter.close()
    calls = await until(lambda: joined(listed(caller), len(told)))
    assert calls.keys() == told.keys()
    for call_id, account in told.items():
        assert calls[call_id]["output_tokens"] == output_of(account["usage"])


def joined(calls: dict[str, dict[str, Any]], expected: int) -> dict[str, dict[str, Any]] | None:
    telling = [call for call in calls.values() if call["provider"] == "google"]
    both = telling and all(call["sources"] == ["otlp", "proxy"] for call in telling)
    return calls if both and len(calls) == expected else None


def output_of(usage: dict[str, Any]) -> int:
    if "candidatesTokenCount" in usage:
        return usage["candidatesTokenCount"] + usage["thoughtsTokenCount"]
    return usage["output_tokens"]
