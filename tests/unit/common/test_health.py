"""Health: alive, ready and metrics, in an app or on a port of their own, whatever the checks do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import httpx

from tokentide_common.health import serve_health
from tokentide_common.metrics import Metrics


async def ask(port: int, path: str) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.get(f"http://127.0.0.1:{port}{path}")


async def test_a_service_that_needs_nothing_is_alive_and_ready_once_it_answers():
    async with serve_health(Metrics(), port=0) as port:
        alive, ready = await ask(port, "/healthz"), await ask(port, "/readyz")
    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "checks": {}})


async def test_readiness_follows_the_checks_and_names_what_is_missing():
    there = {"broker": True, "store": False}

    async def checks() -> Mapping[str, bool]:
        return there

    async with serve_health(Metrics(), checks, port=0) as port:
        missing = await ask(port, "/readyz")
        there["store"] = True
        found = await ask(port, "/readyz")
    assert (missing.status_code, missing.json()["checks"]) == (503, {"broker": True, "store": False})
    assert found.status_code == 200


async def test_a_check_that_fails_means_not_ready_but_alive():
    async def checks() -> Mapping[str, bool]:
        raise OSError("away")

    async with serve_health(Metrics(), checks, port=0) as port:
        assert (await ask(port, "/readyz")).status_code == 503
        assert (await ask(port, "/healthz")).status_code == 200


async def test_a_check_that_hangs_is_answered_in_time_for_the_probe():
    async def checks() -> Mapping[str, bool]:
        await asyncio.Event().wait()
        raise AssertionError("never set")

    async with serve_health(Metrics(), checks, port=0) as port, asyncio.timeout(4):
        assert (await ask(port, "/readyz")).status_code == 503


async def test_a_service_without_progress_asks_to_be_restarted():
    async with serve_health(Metrics(), port=0, alive=lambda: False) as port:
        answer = await ask(port, "/healthz")
    assert (answer.status_code, answer.json()) == (503, {"status": "stuck"})


async def test_metrics_are_served_as_prometheus_reads_them():
    metrics = Metrics()
    metrics.gauge("tokentide_ranker_active").set(1)
    async with serve_health(metrics, port=0) as port:
        answer = await ask(port, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "tokentide_ranker_active 1.0" in answer.text


async def test_an_unknown_path_is_a_problem():
    async with serve_health(Metrics(), port=0) as port:
        assert (await ask(port, "/nope")).json()["code"] == "not_found"
