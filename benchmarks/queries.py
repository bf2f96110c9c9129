"""Organisation-wide rankings and breakdowns: from the rollups, over the same question asked of the calls.

Both are the query API's own statements; for the second its planner is told that there is only the ledger. One
organisation has all the calls. The questions are asked in turn, each of both, and then over HTTP of the
whole service; the answers must be equal.

The goal for the ratio is one for questions that concern all calls, at 10 million of them: a question takes
some 15 ms however little it reads, so at fewer calls, or for a day, the ratio says little and has no goal.

    python benchmarks/queries.py            1.1 million emissions (1 million calls)
    python benchmarks/queries.py --full     11.2 million emissions (10 million calls)
"""

from __future__ import annotations

import argparse
import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from litestar.testing import AsyncTestClient

import parts
import report
import workload
from history import prefill
from tokentide_common.accounts import create_organization, issue_key
from tokentide_common.database import open_database
from tokentide_common.migrate import migrate
from tokentide_common.store import Store, rows
from tokentide_query_api.app import create_app
from tokentide_query_api.breakdown import top_and_whole
from tokentide_query_api.dimensions import DIMENSIONS, LEDGER, TABLES, Table
from tokentide_query_api.resolution import parts as planned
from tokentide_query_api.scope import Scope, Sight
from tokentide_query_api.settings import QuerySettings
from tokentide_query_api.statement import Statement
from tokentide_query_api.store_wall import WalledStore

ORG = "org_bench"
DAY_MS = 86_400_000
MONTH = 31
GOAL_HOLDS_AT = 10_000_000


class Question(NamedTuple):
    """A breakdown or ranking over the last `days` that hold calls."""

    name: str
    by: tuple[str, ...]
    metric: str
    column: str
    days: int


QUESTIONS = (
    Question("users by cost, a month", ("user_id",), "cost_usd", "cost_nano", MONTH),
    Question("users by tokens, a week", ("user_id",), "total_tokens", "total_tokens", 7),
    Question("users by cost, a day", ("user_id",), "cost_usd", "cost_nano", 1),
    Question("models by cost, a month", ("model",), "cost_usd", "cost_nano", MONTH),
    Question("projects by cost, a month", ("project",), "cost_usd", "cost_nano", MONTH),
    Question("teams by model, a month", ("team", "model"), "cost_usd", "cost_nano", MONTH),
    Question("machines by calls, a week", ("machine_id",), "calls", "calls", 7),
)


def last_day_end_ms(emissions: int) -> int:
    """Return the first UTC midnight after the newest call."""
    newest = workload.START_MS + emissions * 3_600_000 // workload.CALLS_PER_HOUR
    return -(-newest // DAY_MS) * DAY_MS


async def asked(store: Store, question: Question, end_ms: int, tables: Sequence[Table]) -> list[Any]:
    """Ask the store as the breakdown route does, with these tables to plan with."""
    dimensions = tuple(DIMENSIONS[name] for name in question.by)
    statement = Statement(Scope(Sight(ORG, own=None, people=True), end_ms - question.days * DAY_MS, end_ms))
    edges = (statement.scope.start_ms, statement.scope.end_ms)
    sums = statement.sums(planned(edges, dimensions, tables=tables), dimensions)
    sql = top_and_whole(sums, dimensions, question.column, 50)
    return await rows(WalledStore(store, [ORG]), sql, statement.params)


async def timed(work: Callable[[], Awaitable[Any]], times: int) -> list[float]:
    """Return how long each of `times` runs took, in milliseconds."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        await work()
        taken.append((time.perf_counter() - started) * 1000)
    return taken


def p95(values: Sequence[float]) -> float:
    return sorted(values)[math.ceil(len(values) * 0.95) - 1]


async def measured(emissions: int, times: int, path: Path) -> list[report.Line]:
    """Fill a store, ask every question of both, and compare."""
    store = Store(f"chdb://{path}/chdb", timeout_s=600)
    await migrate(store)
    await prefill(store, 0, emissions, ORG)
    calls = (await rows(store, "SELECT toInt64(sum(sign)) AS n FROM ledger"))[0]["n"]
    end_ms = last_day_end_ms(emissions)
    lines, all_fast, ratios = [], [], []
    for question in QUESTIONS:

        async def rollup(question: Question = question) -> list[Any]:
            return await asked(store, question, end_ms, TABLES)

        async def ledger(question: Question = question) -> list[Any]:
            return await asked(store, question, end_ms, (LEDGER,))

        assert await rollup() == await ledger(), f"{question.name}: rollups and calls disagree"
        fast: list[float] = []
        slow: list[float] = []
        for _ in range(max(1, times // 5)):
            slow += await timed(ledger, 1)
            fast += await timed(rollup, 5)
        all_fast += fast
        ratio = median(slow) / median(fast)
        of_all = question.days == MONTH
        ratios += [ratio] if of_all else []
        note = f"p50 {median(fast):.1f} ms, p95 {p95(fast):.1f}; of the calls p50 {median(slow):.0f} ms"
        goal = 8 if of_all and calls >= GOAL_HOLDS_AT else None
        lines.append(report.Line("queries", question.name, ratio, goal=goal, note=note))
    lines.append(
        report.Line(
            "queries",
            f"p95 of all questions at {calls / 1e6:.2g} M calls",
            p95(all_fast),
            unit="ms",
            goal=50,
            at_most=True,
            note=f"median ratio over a month {median(ratios):.1f}",
        )
    )
    lines.append(await over_http(store, path, end_ms, times))
    await store.close()
    return lines


async def over_http(store: Store, path: Path, end_ms: int, times: int) -> report.Line:
    """Ask the same of the whole service: key, parameters, planning, store, JSON."""
    engine = open_database(f"sqlite:///{path}/accounts.db")
    create_organization(engine, "Bench", org_id=ORG)
    secret, _ = issue_key(engine, ORG, "a")
    app = create_app(QuerySettings(), store=store, engine=engine)
    taken: list[float] = []
    async with AsyncTestClient(app) as client:
        for question in QUESTIONS:
            since, until = (
                datetime.fromtimestamp(ms / 1000, UTC).isoformat().replace("+00:00", "Z")
                for ms in (end_ms - question.days * DAY_MS, end_ms)
            )
            query = {"by": ",".join(question.by), "metric": question.metric, "from": since, "to": until}

            async def get(query: dict[str, str] = query) -> None:
                answer = await client.get(
                    "/api/v1/usage/breakdown", params=query, headers={"x-tokentide-key": secret}
                )
                assert answer.status_code == 200, answer.text

            taken += await timed(get, times)
    engine.dispose()
    note = f"p50 {median(taken):.1f} ms"
    return report.Line("queries", "p95 over HTTP", p95(taken), unit="ms", goal=50, at_most=True, note=note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    events = args.events or (11_200_000 if args.full else 1_120_000)
    with parts.folder() as path:
        report.show(asyncio.run(measured(events, args.times, path)), as_json=args.json)


if __name__ == "__main__":
    main()
