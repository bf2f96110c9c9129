"""Every dashboard route and every named report, of one organisation that has all calls.

Goals at 10 million calls, 10,000 users, the embedded engine and 2 cores: p95 of a dashboard route under
50 ms, of a report under 300 ms, and of 64 dashboards at once under 250 ms, each of which asks for one of
those routes a second. The first answer of each is told apart: nothing that it reads is in the engine's
caches. The others are enough for a p95 that is not the slowest of them. Answers are kept, as they are by
default, for the 64 dashboards alone, and new calls every second make them wrong.

    python benchmarks/reports.py            1.1 million emissions (1 million calls)
    python benchmarks/reports.py --full     11.2 million emissions (10 million calls)
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import httpx

import parts
import report
import workload
from history import block, prefill
from tokentide_common.accounts import create_organization, issue_key
from tokentide_common.database import open_database
from tokentide_common.migrate import migrate
from tokentide_common.store import Store
from tokentide_query_api.__main__ import tune_garbage_collection
from tokentide_query_api.app import create_app
from tokentide_query_api.reports.catalogue import REPORTS
from tokentide_query_api.settings import QuerySettings

ORG = "org_bench"
DASHBOARD = (
    "/usage/summary",
    "/usage/timeseries?bucket=day",
    "/usage/timeseries?bucket=day&group_by=model",
    "/usage/breakdown?by=model",
    "/usage/breakdown?by=user_id",
    "/usage/breakdown?by=project",
    "/calls",
    "/sessions",
    "/rankings",
)
DASHBOARD_GOAL_MS, REPORT_GOAL_MS, CROWD_GOAL_MS = 50, 300, 250
DASHBOARD_TIMES = 41
CROWD, CROWD_FOR_S, ARRIVING = 64, 20, 200
# Of six hours: a month of hours of 10,000 users has more rows than an answer may have.
OF_HOURS = frozenset({"cost-attribution"})
_MORE = {"quota": "&day_tokens=1000000&month_usd=100"}


async def measured(emissions: int, times: int, path: Path) -> list[report.Line]:
    """Fill a store, and ask everything of it."""
    store = Store(f"chdb://{path}/chdb", timeout_s=600, connections=8)
    await migrate(store)
    await prefill(store, 0, emissions, ORG)
    begin, end = (_text(ms) for ms in _span_ms(emissions))
    hours_ago = _text(_span_ms(emissions)[1] - 6 * 3_600_000)
    lines = []
    async with _api(store, path, kept_answers_bytes=0) as client:
        asked = [(path, DASHBOARD_GOAL_MS, "dashboard", max(times, DASHBOARD_TIMES)) for path in DASHBOARD]
        asked += [(f"/reports/{r.name}", REPORT_GOAL_MS, "report", times) for r in REPORTS]
        asked.append(("/blocks", REPORT_GOAL_MS, "report", times))
        for name, goal, kind, often in asked:
            since = hours_ago if name.rpartition("/")[2] in OF_HOURS else begin
            url = _url(name, since, end)
            taken = [await _ask(client, url) for _ in range(often)]
            note = f"p50 {median(taken[1:]):.0f} ms, the first {taken[0]:.0f} ms"
            lines.append(
                report.Line(f"{kind}", name, _p95(taken[1:]), unit="ms", goal=goal, at_most=True, note=note)
            )
    async with _api(store, path) as client:
        arriving = asyncio.create_task(_arrive(store, emissions))
        lines.append(await _crowd(client, [_url(name, begin, end) for name in DASHBOARD]))
        arriving.cancel()
    await store.close()
    return lines


@contextlib.asynccontextmanager
async def _api(store: Store, path: Path, **settings: int) -> AsyncIterator[httpx.AsyncClient]:
    engine = open_database(f"sqlite:///{path}/{time.time()}.db")
    create_organization(engine, "Bench", org_id=ORG)
    secret, _ = issue_key(engine, ORG, "a")
    chosen = QuerySettings(rate_read_per_minute=1_000_000, **settings)
    app = create_app(chosen, store=store, engine=engine)
    # Not Litestar's own client: it blocks its loop for a request, so that a crowd would stand in line for it.
    through = httpx.ASGITransport(app)
    async with (
        app.lifespan(),
        httpx.AsyncClient(
            transport=through, base_url="http://bench", headers={"x-tokentide-key": secret}, timeout=60
        ) as client,
    ):
        tune_garbage_collection()
        yield client
    engine.dispose()


async def _arrive(store: Store, emissions: int) -> None:
    """Have new calls arrive every second, so that what is kept of answers does not stay right."""
    for first in itertools.count(emissions, ARRIVING):
        rows, _ = block(first, ARRIVING, ORG)
        await store.insert("ledger", rows)
        await asyncio.sleep(1)


def _url(name: str, begin: str, end: str) -> str:
    separator = "&" if "?" in name else "?"
    period = "" if name == "/rankings" else f"{separator}from={begin}&to={end}&tz=Europe/Berlin"
    return f"/api/v1{name}{period}{_MORE.get(name.rpartition('/')[2], '')}"


async def _crowd(client: httpx.AsyncClient, urls: list[str]) -> report.Line:
    """Have every dashboard ask once a second, for one route after the other; what comes late is late."""
    began = time.perf_counter()

    async def dashboard(number: int) -> list[float]:
        taken = []
        for turn in range(CROWD_FOR_S):
            due = began + turn + number / CROWD
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await _ask(client, urls[(number + turn) % len(urls)])
            taken.append((time.perf_counter() - due) * 1000)
        return taken

    taken = [ms for each in await asyncio.gather(*map(dashboard, range(CROWD))) for ms in each]
    what = f"{CROWD} at once, one request a second each, new calls every second"
    note = f"p50 {median(taken):.0f} ms, {len(taken)} requests, from when each was due"
    return report.Line(
        "dashboards", what, _p95(taken), unit="ms", goal=CROWD_GOAL_MS, at_most=True, note=note
    )


async def _ask(client: httpx.AsyncClient, url: str) -> float:
    began = time.perf_counter()
    answer = await client.get(url)
    assert answer.status_code == 200, (url, answer.text[:500])
    return (time.perf_counter() - began) * 1000


def _span_ms(emissions: int) -> tuple[int, int]:
    hours = emissions * 9 // 10 // workload.CALLS_PER_HOUR + 1
    return workload.START_MS, workload.START_MS + hours * 3_600_000


def _text(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat().replace("+00:00", "Z")


def _p95(values: list[float]) -> float:
    return sorted(values)[math.ceil(len(values) * 0.95) - 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--times", type=int, default=21)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    events = args.events or (11_200_000 if args.full else 1_120_000)
    with parts.folder() as path:
        report.show(asyncio.run(measured(events, args.times, path)), as_json=args.json)


if __name__ == "__main__":
    main()
