"""An example answer of every route and named report, as the reference shows it: a few calls, really asked.

`PYTHONPATH=tests python tests/infra/report_examples.py` writes docs/reference/…-examples.json; a test holds
them against the code.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from infra.activity_rows import activity, insert_activity
from infra.ledger_rows import Row, call, insert_calls
from infra.query_client import query_api
from infra.rankings import insert_rankings, ranking
from infra.route_examples import told
from tokentide_common.migrate import migrate
from tokentide_common.store import Store
from tokentide_query_api.reports.catalogue import REPORTS

PLACE: Final = Path(__file__).resolve().parents[2] / "docs/reference"
_DAY: Final = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
_ASKED: Final = "from=2026-11-20&to=2026-11-20&tz=Europe/Berlin"
_INSTEAD: Final = {"pace": "from=2026-10-16&to=2026-11-20&tz=Europe/Berlin"}
_MORE: Final = {"quota": "&day_tokens=20000&month_usd=50", "peaks": "&requests_per_minute=4"}
_PEOPLE: Final = (
    ("ann", "ann@acme.example", "laptop", "shop", "claude-opus-5-5"),
    ("bob", "bob@acme.example", "tower", "site", "claude-sonnet-5-5"),
)
_PLAN: Final = {"user": "ann", "plan": "max5x", "valid_from": "2026-11-01"}
_RANKED: Final = {"period": "day", "period_start": "2026-11-20", "time_zone": "UTC"}
_ROWS_SHOWN: Final = 2
_COLD: Final = 6
"""The call that finds no cache."""
_UNKNOWN: Final = 5
"""The call whose model has no price."""


class Examples(NamedTuple):
    """What the two files hold, and the document of the routes."""

    reports: dict[str, Any]
    routes: dict[str, Any]
    document: dict[str, Any]


async def examples(store: Store, folder: Path) -> Examples:
    """Return the answer of every report, with its first rows only, and that of every other route."""
    await insert_calls(store, [*_calls(), *_fridays_before()])
    await insert_activity(store, _done())
    await insert_rankings(store, ranking(1, [("ann", 51_000_021, 1, 2), ("bob", 8_500_002, 2, 1)], **_RANKED))
    found = {}
    async with query_api(store, folder, signup="open") as api:
        await api.ask("POST", "/plans", "admin", body=_PLAN)
        for report in REPORTS:
            asked = _INSTEAD.get(report.name, _ASKED)
            answer = await api.json(f"/reports/{report.name}?{asked}{_MORE.get(report.name, '')}")
            found[report.name] = {**answer, "rows": answer["rows"][:_ROWS_SHOWN]}
        return Examples(found, await told(api), (await api.client.get("/schema")).json())


def written(found: dict[str, Any]) -> str:
    """Return the content of a file."""
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def _calls() -> list[Row]:
    rows = []
    for number in range(8):
        user, email, machine, project, model = _PEOPLE[number % 3 == 2]
        model = "llama-of-the-house" if number == _UNKNOWN else model
        rows.append(
            call(
                call_id=f"req_{number}",
                occurred_at=_DAY + timedelta(seconds=20 * number),
                provider="anthropic",
                model=model,
                user_id=user,
                user_email=email,
                machine_id=machine,
                project=project,
                session_id=f"session-{user}",
                team="web",
                department="engineering",
                cost_center="4711",
                identity_provider="okta",
                input_tokens=100 + number,
                cache_read_tokens=0 if number == _COLD else 5000,
                cache_write_5m_tokens=5400 if number == _COLD else 400,
                output_tokens=200 + 10 * number,
                cost_nano=0 if number == _UNKNOWN else 8_500_000 + number,
                unpriced=number == _UNKNOWN,
                duration_ms=1500 + number,
            )
        )
    return rows


def _fridays_before() -> list[Row]:
    """Return what makes the day unusual: the same weekday cost less on each of five weeks before it."""
    return [
        call(
            call_id=f"req_before_{week}",
            occurred_at=_DAY - timedelta(weeks=week),
            provider="anthropic",
            model="claude-opus-5-5",
            user_id="ann",
            cost_nano=9_000_000 + 500_000 * (week % 3),
        )
        for week in range(1, 6)
    ]


def _done() -> list[Row]:
    at = _DAY.replace(minute=30)
    done = [
        *(("commits", 2, {}), ("pull_requests", 1, {}), ("active_time_s", 540, {"kind": "cli"})),
        *(("lines_of_code", 180, {"kind": "added"}), ("lines_of_code", 20, {"kind": "removed"})),
        *(("edit_decisions", 9, {"decision": "accept"}), ("edit_decisions", 1, {"decision": "reject"})),
    ]
    return [activity(metric, value, bucket=at, user_id="ann", **more) for metric, value, more in done]


async def _write() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = Store(f"chdb://{folder / 'store'}")
        try:
            await migrate(store)
            found = await examples(store, folder)
            (PLACE / "report-examples.json").write_text(written(found.reports), "utf-8")
            (PLACE / "route-examples.json").write_text(written(found.routes), "utf-8")
        finally:
            await store.close()


if __name__ == "__main__":
    asyncio.run(_write())
