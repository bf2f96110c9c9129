"""The proxy's tap in this process or, to be killed, in one of its own."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

from infra.ingest_service import everything_on
from infra.process import free_port
from tokentide_common.broker import Publisher
from tokentide_common.events import UsageEvent, decode_wire_event
from tokentide_common.metrics import Metrics
from tokentide_common.topics import USAGE
from tokentide_proxy.settings import ProxySettings
from tokentide_proxy.tap import Tap


def seen(number: int, session: str = "one") -> UsageEvent:
    """Return an event of a call; numbers give the order."""
    return UsageEvent(
        call_id=f"req_{session}_{number:06d}",
        source="proxy",
        occurred_at=datetime(2026, 11, 22, 11, tzinfo=UTC),
        org_id="org_1",
        session_id=session,
        output_tokens=number,
    )


def ids(*numbers: int, session: str = "one") -> list[str]:
    return [seen(number, session).call_id for number in numbers]


class Tapped:
    """A tap, with what can be seen of it from outside."""

    def __init__(self, url: str, folder: Path, **settings: object) -> None:
        self.metrics = Metrics()
        self.publisher = Publisher(url, deadline_s=3.0)
        chosen = {"broker_url": url, "proxy_spool_dir": str(folder)} | settings
        self.tap = Tap(ProxySettings(**chosen), self.publisher, self.metrics)  # type: ignore[arg-type]  # by name

    def dropped(self, reason: str) -> int:
        return self.value(rf'tokentide_proxy_events_dropped_total{{reason="{reason}"}}')

    @property
    def buffered(self) -> int:
        return self.value("tokentide_proxy_events_buffered")

    @property
    def spool_bytes(self) -> int:
        return self.value("tokentide_proxy_spool_bytes")

    def value(self, series: str) -> int:
        """Return what a metric says, 0 where it does not exist yet."""
        found = re.search(rf"^{re.escape(series)} (\S+)$", self.metrics.render().decode(), re.M)
        return int(float(found[1])) if found else 0


@contextlib.asynccontextmanager
async def tapping(
    url: str, folder: Path, *, drain_s: float = 10, **settings: object
) -> AsyncIterator[Tapped]:
    tapped = Tapped(url, folder, **settings)
    await tapped.tap.start()
    try:
        yield tapped
    finally:
        await tapped.tap.stop(drain_s)
        await tapped.publisher.stop()


def nowhere() -> str:
    """Return the URL of a broker that is away."""
    return f"kafka://127.0.0.1:{free_port()}"


async def arrived(url: str) -> list[str]:
    """Return the call ids on the topic of usage, in order within a partition."""
    return [decode_wire_event(record.value or b"").call_id for record in await everything_on(url, USAGE)]


async def in_order(url: str) -> bool:
    """Return whether every partition has its events in the order of their numbers, repeats aside."""
    met: dict[int, list[int]] = {}
    for record in await everything_on(url, USAGE):
        number = decode_wire_event(record.value or b"").output_tokens
        numbers = met.setdefault(record.partition, [])
        if number not in numbers:
            numbers.append(number)
    return all(numbers == sorted(numbers) for numbers in met.values())


async def _hold(url: str, folder: str, embedded: str, count: str) -> None:
    """Spool events and wait to be killed."""
    async with tapping(url, Path(folder), embedded=embedded == "embedded") as tapped:
        for number in range(int(count)):
            tapped.tap.offer(seen(number))
        while tapped.buffered or not tapped.spool_bytes:
            await asyncio.sleep(0.02)
        sys.stdout.write("spooled\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_hold(*sys.argv[1:]))
