"""From what real clients wrote to what the query API answers, against the account of the server."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from genai_prices import Usage, calc_price

from infra import manifests
from infra.embedded import Caller, Embedded, Keys, Machine
from infra.manifests import RUNS, Totals, session_dir

# Every request of every capture that no log can tell of, and why. Nothing else may be missing.
NOT_IN_THE_LOG = {
    "07-overload-529": {
        "req_011C1kGrX14gaYumc4a7yiw7": manifests.REFUSED,
        "req_011CRj4kd7MPBaZ7Q4ohnPsa": manifests.REFUSED,
    },
    "15-killed-midstream": {"req_011CnspvmhQoKMt85SMF1noP": manifests.INTERRUPTED},
    "16-cut-stream-retry": {"req_011CQhmzKw9hs3SimFAcCFPq": manifests.INTERRUPTED},
    "19-bad-request-400": {
        "req_011C1SLDFw4YkA1b8gUuFaQP": manifests.REFUSED,
        "req_011C5nBPvxpJKzTg6NckHWQt": manifests.REFUSED,
        "req_011CHfFuMK6JLrYC1ekd2TUM": manifests.REFUSED,
        "req_011Ci7ry8QeGD3D9UFSYcRR2": manifests.REFUSED,
        "req_011CVdjuGvRdGxWz2D3N6Vop": manifests.REFUSED,
        "req_011CGF1q8wX8g1fMCfWkzCaA": manifests.REFUSED,
    },
    "20-slash-compact": {
        "req_011C4EzaiTieKQMk4WZGUhps": manifests.COMPACTION,
        "req_011CnJkqtk9meMm8T3PCCThm": manifests.COMPACTION,
    },
    "24-old-1.0.128-slow": {
        "req_011CiUg7ADhDiDqwEGsNi67H": manifests.HELPER,
        "req_011CHH1EMGg3qPq7yEgxtLqo": manifests.HELPER,
    },
}


def logged_requests(run: str) -> Iterator[dict[str, Any]]:
    """Every request of a run except the ones listed above."""
    absent = NOT_IN_THE_LOG.get(run, {})
    return (r for r in manifests.manifest(run)["upstream_requests"] if r["request_id"] not in absent)


def price_of(request: dict[str, Any]) -> Decimal:
    """What genai-prices itself says that a request cost."""
    used, split = request["usage"], request["usage"]["cache_creation"]
    writes, reads = used["cache_creation_input_tokens"], used["cache_read_input_tokens"]
    usage = Usage(
        input_tokens=used["input_tokens"] + reads + writes,
        cache_read_tokens=reads,
        cache_write_tokens=writes,
        cache_write_5m_tokens=split["ephemeral_5m_input_tokens"],
        cache_write_1h_tokens=split["ephemeral_1h_input_tokens"],
        output_tokens=used["output_tokens"],
    )
    moment = datetime.fromtimestamp(request["t"], UTC)
    return calc_price(
        usage, request["model"], provider_id="anthropic", genai_request_timestamp=moment
    ).total_price


def costs(*runs: str) -> dict[str, Decimal]:
    """The exact cost per model of every call that the logs contain."""
    total: dict[str, Decimal] = {}
    for run in runs:
        for request in logged_requests(run):
            total[request["model"]] = total.get(request["model"], Decimal(0)) + price_of(request)
    return total


def truth(*runs: str) -> dict[str, Totals]:
    total: dict[str, Totals] = {}
    for run in runs:
        for model, totals in manifests.truth_for_log(run).items():
            total[model] = total.get(model, Totals()).plus(totals)
    return total


def counted(caller: Caller, **only: str) -> dict[str, Totals]:
    rows = caller.by("model", **only)
    return {model: Totals(*(row[name] for name in Totals._fields)) for model, row in rows.items()}


def charged(caller: Caller, **only: str) -> dict[str, Decimal]:
    return {model: Decimal(row["cost_usd"]) for model, row in caller.by("model", **only).items()}


def by_id(calls: list[Any]) -> dict[str, Any]:
    assert len({call["call_id"] for call in calls}) == len(calls), "a call is listed twice"
    return {call["call_id"]: call for call in calls}


def test_only_the_listed_requests_are_missing_from_the_logs() -> None:
    found = {run: {m.request_id: m.reason for m in manifests.missing_from_log(run)} for run in RUNS}
    assert {run: absent for run, absent in found.items() if absent} == NOT_IN_THE_LOG
    assert not any(manifests.placeholders_in_log(run) for run in RUNS)


@pytest.fixture(scope="module")
def developer(system: Embedded, tmp_path_factory: pytest.TempPathFactory) -> tuple[Machine, Caller]:
    """A machine that pushes one capture after the other, and what its organisation sees."""
    keys = system.organization()
    return Machine(tmp_path_factory.mktemp("developer"), system, keys), system.caller(keys)


@pytest.mark.parametrize("run", RUNS)
def test_a_pushed_log_is_the_truth_of_the_server_per_model(
    run: str, developer: tuple[Machine, Caller]
) -> None:
    machine, caller = developer
    pushed = machine.push(session_dir(run))
    assert (pushed.code, pushed.err) == (0, "")
    assert counted(caller, project=run) == truth(run)
    assert charged(caller, project=run) == costs(run)
    assert caller.summary(project=run)["unpriced_calls"] == 0
    listed = by_id(caller.items("calls", project=run))
    assert listed.keys() == {request["request_id"] for request in logged_requests(run)}
    for absent in NOT_IN_THE_LOG.get(run, {}):
        assert caller.client.get(f"/api/v1/calls/{absent}").status_code == 404


def test_a_second_push_changes_nothing(developer: tuple[Machine, Caller]) -> None:
    machine, caller = developer
    logs = [session_dir(run) for run in RUNS]
    assert machine.push(*logs).code == 0
    before = (caller.summary(), caller.items("calls"))
    assert (counted(caller), charged(caller)) == (truth(*RUNS), costs(*RUNS))
    again = machine.push(*logs)
    assert (again.code, again.err, again.json["events"]) == (0, "", 0)
    assert (caller.summary(), caller.items("calls")) == before


def test_all_logs_from_three_machines_at_once_in_any_order_twice_count_each_call_once(
    system: Embedded, keys: Keys, tmp_path: Path, machine: Callable[[str], Machine]
) -> None:
    caller = system.caller(keys)
    names = ("desktop", "laptop", "server")
    portions = {name: copied_in_portions(tmp_path / "logs" / name, len(name) % 3 + 1) for name in names}

    def push_all(name: str) -> None:
        for portion in portions[name]:
            ended = machine(name).push(*portion, flags=("--resend",))
            assert (ended.code, ended.err, ended.json["rejected"]) == (0, "", 0)

    seen = []
    for _ in range(2):
        with ThreadPoolExecutor(len(names)) as threads:
            list(threads.map(push_all, names))
        assert counted(caller) == truth(*RUNS)
        assert charged(caller) == costs(*RUNS)
        seen.append((caller.summary(), by_id(caller.items("calls"))))
    assert seen[0] == seen[1]
    assert len(seen[0][1]) == sum(totals.calls for totals in truth(*RUNS).values())


def copied_in_portions(folder: Path, number: int) -> list[list[Path]]:
    """Copy every capture under names that sort in a random order, and share them out among pushes.

    A push reads files by the order of their paths.
    """
    runs = random.sample(RUNS, len(RUNS))
    copies = [folder / f"{place:02}-{run}" for place, run in enumerate(runs)]
    for run, copy in zip(runs, copies, strict=True):
        shutil.copytree(session_dir(run), copy)
    return [copies[part::number] for part in range(number)]
