"""The proxy as it runs, with what it counts through away: the broker, and the disk that stands in for it."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.brokers import Broker
from infra.fault_proxy import FaultProxy
from infra.provider_answers import anthropic_message
from infra.proxied import Answer, bare, post
from infra.proxy_process import ProxyProcess
from infra.raw_upstream import RawUpstream, ok
from infra.taps import arrived
from infra.waiting import until

MESSAGE = anthropic_message()


def call_id(number: int) -> str:
    return f"req_{number:024d}"


def answers(count: int) -> RawUpstream:
    return RawUpstream(*([ok(MESSAGE, (b"request-id", call_id(n).encode()))] for n in range(count)))


async def ask(proxy: ProxyProcess, count: int) -> list[float]:
    """Make so many calls, each of which must get the provider's answer, and return how long each took."""
    took = []
    async with proxy.connected() as client:
        for _ in range(count):
            began = time.monotonic()
            client.send(post(b"/v1/messages", b"{}", *proxy.headers()))
            answer: Answer = await client.answer()
            assert (answer.status, answer.body) == (200, MESSAGE)
            took.append(time.monotonic() - began)
    return took


async def metric(proxy: ProxyProcess, series: str) -> float:
    async with proxy.connected() as client:
        client.send(bare(b"GET", b"/metrics"))
        page = (await client.answer()).body.decode()
    found = re.search(rf"^{re.escape(series)} (\S+)$", page, re.MULTILINE)
    return float(found[1]) if found else 0.0


@pytest.mark.parametrize("fault", ["refuse", "blackhole"])
async def test_with_the_broker_away_calls_go_on_as_before_and_later_all_are_counted(
    proxied_tansu: tuple[Broker, FaultProxy], tmp_path: Path, fault: str
) -> None:
    broker, way = proxied_tansu
    async with answers(60) as upstream:
        proxy = ProxyProcess(tmp_path, upstream.port, TOKENTIDE_BROKER_URL=broker.url)
        await proxy.start()
        try:
            await ask(proxy, 10)
            await until(lambda: _all_there(broker.url, 10), within_s=30)
            getattr(way, fault)()
            took = sorted(await ask(proxy, 25))
            spooled = "tokentide_proxy_spool_bytes"
            await until(lambda: _over(proxy, spooled, 0), within_s=30)
            took += sorted(await ask(proxy, 15))
            assert took[len(took) // 2] < 1, "nobody waits for the broker, which is given two seconds"
            way.heal()
            await ask(proxy, 10)
            await until(lambda: _all_there(broker.url, 60), within_s=60)
            assert "usage_events_dropped" not in proxy.log()
        finally:
            await proxy.stop()


async def test_with_broker_and_disk_away_calls_go_on_losses_are_counted_and_alarmed(
    tiny_disk: Path, tmp_path: Path
) -> None:
    filler = tiny_disk / "filler"
    dropped = 'tokentide_proxy_events_dropped_total{reason="disk_error"}'
    async with answers(100) as upstream:
        proxy = ProxyProcess(tmp_path, upstream.port, TOKENTIDE_PROXY_SPOOL_DIR=str(tiny_disk / "spool"))
        await proxy.start()
        try:
            await ask(proxy, 5)
            await until(lambda: _over(proxy, "tokentide_proxy_spool_bytes", 5 * 100), within_s=20)
            _fill(filler)
            await ask(proxy, 60)
            await until(lambda: _over(proxy, dropped, 0), within_s=20)
            # The alarm is raised at once, as an error, with how many and why.
            await until(lambda: '"disk_error":' in proxy.log() and '"level":"error"' in proxy.log())
            held = await metric(proxy, "tokentide_proxy_spool_bytes")
            filler.unlink()
            await ask(proxy, 10)
            await until(lambda: _over(proxy, "tokentide_proxy_spool_bytes", held), within_s=20)
        finally:
            await proxy.stop()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB, which only root may have."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        subprocess.run(mounting, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("NO DISK OF ITS OWN: only root may mount one; a full disk is tried on a stub instead")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _fill(file: Path) -> None:
    with file.open("wb", buffering=0) as out, contextlib.suppress(OSError):
        while True:
            out.write(bytes(4096))


async def _over(proxy: ProxyProcess, series: str, least: float) -> bool:
    return await metric(proxy, series) > least


async def _all_there(url: str, count: int) -> bool:
    found = set(await arrived(url))
    expected = {call_id(number) for number in range(count)}
    assert found <= expected
    return found == expected
