"""What clients measure stands by itself where no call is known, and never on top of one."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from infra.embedded import PERIOD, Caller, Embedded, Keys
from infra.manifests import RUNS
from infra.telemetry import DATA_DIR, Exporter, Payload, payloads

TOTALS = json.loads((DATA_DIR / "claude-code/metric_totals.json").read_text("utf-8"))
KINDS = {"input": "input", "output": "output", "cacheRead": "cache_read", "cacheCreation": "cache_write"}
WITHOUT_SESSION_ID = "09-bearer-gzip-toggles"
Tokens = dict[tuple[str, str], Decimal]


@pytest.fixture
def exporter(system: Embedded, keys: Keys) -> Iterator[Exporter]:
    sending = Exporter(system.ready, keys.machine_key)
    yield sending
    sending.close()


def requests(signal: str, *runs: str) -> list[Payload]:
    """Return what runs sent of one signal, over HTTP and gRPC."""
    return [p for run in runs for p in payloads(run) if p.name.endswith(f"-{signal}")]


def by_model_and_kind(answer: Any) -> Tokens:
    rows = [row for row in answer["rows"] if row["metric"] == "client_tokens"]
    return {(row["key"]["model"], row["key"]["kind"]): Decimal(row["value"]) for row in rows}


def measured(*runs: str) -> Tokens:
    """Return the tokens per model and kind that these runs' metrics add up to."""
    total: Tokens = defaultdict(Decimal)
    for run in runs:
        for name, value in TOTALS[run].items():
            metric, model, kind = name.split("/")
            if metric == "claude_code.token.usage":
                total[model, KINDS[kind]] += Decimal(str(value))
    return dict(total)


def asked(caller: Caller, route: str = "activity", **parameters: Any) -> Any:
    return caller.ask(route, **PERIOD, **parameters)


def test_metrics_alone_give_tokens_that_are_marked_and_no_calls(system, keys, exporter):
    caller = system.caller(keys)
    sent = requests("metrics", *RUNS) * 2
    random.Random(1).shuffle(sent)
    exporter.send_all(sent)  # answered once they are stored
    assert caller.summary()["calls"] == 0
    alone = asked(caller, "activity/metrics-only", by="model,kind")
    assert by_model_and_kind(alone) == measured(*RUNS) == by_model_and_kind(asked(caller, by="model,kind"))
    sessions = asked(caller, metric="client_tokens", by="session_id")
    named = {row["key"]["session_id"] for row in sessions["rows"]} - {""}
    assert (alone["basis"], alone["sessions"]) == ("client_metrics", len(named))
    done = {row["metric"]: row["value"] for row in asked(caller)["rows"]}
    assert done["commits"] == "1"
    assert done["edit_decisions"] == "5"


def test_as_soon_as_calls_are_known_metrics_step_back_for_these_sessions_alone(system, keys, exporter):
    caller = system.caller(keys)
    with_calls, without = RUNS[: len(RUNS) // 2], RUNS[len(RUNS) // 2 :]
    assert WITHOUT_SESSION_ID in with_calls
    exporter.send_all(requests("metrics", *RUNS))
    before = asked(caller, by="model,kind")
    exporter.send_all(requests("logs", *with_calls))
    alone = asked(caller, "activity/metrics-only", by="model,kind")
    assert by_model_and_kind(alone) == measured(*without)
    # What was measured is still there to look at, and is not added to the calls.
    metrics = ("client_tokens", "client_cost_usd")
    exporter.send_all(requests("logs", *without))
    assert asked(caller, "activity/metrics-only")["rows"] == []
    after = [row for row in asked(caller, by="model,kind")["rows"] if row["metric"] in metrics]
    assert after == [row for row in before["rows"] if row["metric"] in metrics]
    total = caller.summary()["total_tokens"]
    exporter.send_all(requests("metrics", *RUNS))
    assert caller.summary()["total_tokens"] == total > 0


def test_prompts_are_counted_and_never_kept(system, keys, exporter):
    exporter.send_all(payloads("02-bash-protobuf-prompts") + payloads("02-bash-protobuf-prompts"))
    caller = system.caller(keys)
    done = {row["metric"]: row["value"] for row in asked(caller, metric=["prompts", "sessions"])["rows"]}
    assert done == {"prompts": "1", "sessions": "1"}
