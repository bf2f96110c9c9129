"""`/api/v1/budgets` over HTTP, and the watch that compares them with the ledger."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
import sqlalchemy as sa

from infra.account_desks import office
from infra.ledger_rows import call, insert_calls, upgrade
from infra.query_client import NOW, Caller, query_api
from infra.sqlite import migrated_sqlite
from infra.topics import all_records
from infra.webhooks import webhook
from tokentide_common.accounts_schema import alert_deliveries, budget_alerts, budget_stops, outbox
from tokentide_common.accounts_schema import budgets as budget_rows
from tokentide_common.broker import Publisher, ensure_topics
from tokentide_common.database import reading, selected, writing, writing_async
from tokentide_common.metrics import Metrics
from tokentide_common.stop_directory import LiveStops
from tokentide_common.topics import ALERTS
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.money import budgets
from tokentide_query_api.money.alerts import decide
from tokentide_query_api.money.budget_spans import span_at
from tokentide_query_api.money.budget_stops import note_stop
from tokentide_query_api.money.budget_watch import BudgetWatch
from tokentide_query_api.money.budget_words import BudgetChange, Channel, NewBudget
from tokentide_query_api.money.deliveries import ATTEMPTS, Deliveries
from tokentide_query_api.periods import zone_named

USD = 10**9
MAIL = [{"kind": "email", "address": "boss@acme.example"}]


@pytest.fixture
async def api(store, tmp_path):
    async with query_api(store, tmp_path, rate_write_per_minute=100_000) as caller:
        yield caller


async def made(api: Caller, **body: Any) -> dict[str, Any]:
    answer = await api.ask("POST", "/budgets", "admin", body={"name": "all", "amount": "100", **body})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def progress(api: Caller, budget: dict[str, Any], who: Any = "admin") -> dict[str, Any]:
    answer = await api.ask("GET", f"/budgets/{budget['budget_id']}/progress", who)
    assert answer.status_code == 200, answer.text
    return answer.json()


def spent(dollars: float, at: datetime = NOW - timedelta(hours=1), **fields: Any) -> dict[str, Any]:
    return call(cost_nano=round(dollars * USD), occurred_at=at, output_tokens=1000, **fields)


async def test_each_scope_counts_its_own_calls_of_the_period(api, store):
    member = api.who("member")
    await insert_calls(store, [
        spent(1, team="t", project="p"), spent(2, user_id=member.user_id), spent(4, key_id="key_1"),
        spent(8, user_email=member.email.upper()), spent(16, NOW - timedelta(days=3)),
        spent(32, NOW.replace(month=10)), spent(64, org_id="org_b", team="t"),
    ])  # fmt: skip
    asked = {
        "31": {}, "15": {"period": "daily"}, "1": {"scope": "team", "scope_value": "t"},
        "2": {"scope": "user", "scope_value": member.user_id}, "4": {"scope": "key", "scope_value": "key_1"},
        "5000": {"unit": "tokens", "amount": "10000"},
    }  # fmt: skip
    for used, body in asked.items():
        assert (await progress(api, await made(api, **body)))["used"] == used, body
    by_project = await progress(api, await made(api, scope="project", scope_value="p"))
    by_email = await made(api, scope="user", scope_value=member.email.upper())
    assert (by_project["used"], by_project["left"], by_project["share"]) == ("1", "99", 0.01)
    assert (await progress(api, by_email, "member"))["used"] == "8"
    assert by_project["period_start"] == "2026-11-01T00:00:00Z"


async def test_progress_tells_when_a_budget_runs_out(api, store):
    days = [NOW - timedelta(days=n) for n in range(1, 29)]
    await insert_calls(store, [spent(10, day, team="t") for day in days])
    told = await progress(api, await made(api, scope="team", scope_value="t", amount="240"))
    # 21 days of November at 10; today 5.6 of what is left, then 10 on the 23rd and on the 24th
    assert (told["used"], told["left"], told["runs_out_on"]) == ("210", "30", "2026-11-25")
    assert told["projected"] == "295.625"
    assert (told["projected_low"], told["projected_high"]) == ("295.625", "295.625")
    assert (await progress(api, await made(api, amount="9000")))["runs_out_on"] is None
    assert (await progress(api, await made(api, amount="210")))["runs_out_on"] == "2026-11-22"


async def test_the_watch_tells_once_though_late_data_crosses_back_and_forth(store, tmp_path):
    async with office(migrated_sqlite(tmp_path / "accounts.db")) as at:
        desk = msgspec.structs.replace(at.desk, clock=lambda: NOW)
        by = at.by("admin")
        channels = [Channel(kind="email", address="boss@acme.example")]
        await budgets.create(desk, by, NewBudget(name="all", amount="100", channels=channels))
        first, second = (BudgetWatch(desk, store, at.people.engine) for _ in range(2))

        async def looked() -> tuple[int, int]:
            await first.look()
            await second.look()
            with reading(at.people.engine) as connection:
                counts = [
                    connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
                    for table in (budget_alerts, outbox)
                ]
            return counts[0], counts[1]

        large = spent(95)
        await insert_calls(store, [large, spent(500, org_id="org_b")])
        assert await looked() == (1, 1)
        small = await upgrade(store, large, {**large, "cost_nano": 50 * USD})
        assert await looked() == (1, 1)
        await upgrade(store, small, {**large, "cost_nano": 105 * USD})
        assert await looked() == (2, 2)
        await first.stop()
        assert await looked() == (2, 2)


async def test_the_watch_notes_what_is_stopped_until_the_period_ends_or_the_budget_is_raised(store, tmp_path):
    async with office(migrated_sqlite(tmp_path / "accounts.db")) as at:
        desk = msgspec.structs.replace(at.desk, clock=lambda: NOW)
        by, large = at.by("admin"), spent(95, team="t")
        wanted = NewBudget(name="t", scope="team", scope_value="t", amount="100", hard_stop=True)
        made = await budgets.create(desk, by, wanted)
        await budgets.create(desk, by, NewBudget(name="soft", amount="1"))
        stops = LiveStops(partial(selected, at.people.engine), wall_clock=NOW.timestamp)

        async def stopped(now: datetime = NOW) -> tuple[bool, int]:
            moved = msgspec.structs.replace(desk, clock=lambda: now)
            watch = BudgetWatch(moved, store, at.people.engine)
            await watch.look()
            await watch.stop()
            with reading(at.people.engine) as connection:
                noted = len(connection.execute(sa.select(budget_stops)).all())
            await stops.refresh()
            return stops.stop_of("org_a", [("team", "t")]) is not None, noted

        await insert_calls(store, [large])
        assert await stopped() == (False, 0)
        small = await upgrade(store, large, {**large, "cost_nano": 100 * USD})
        assert await stopped() == (True, 1)
        await budgets.change(desk, by, made.budget_id, BudgetChange(amount="100.5"), made.version)
        await stops.refresh()
        assert stops.stop_of("org_a", [("team", "t")]) is None, "before anybody has looked"
        assert await stopped() == (False, 0)
        await upgrade(store, small, {**large, "cost_nano": 101 * USD})
        assert await stopped() == (True, 1)
        assert await stopped(datetime(2026, 12, 1, tzinfo=UTC)) == (False, 0)
        november = span_at("monthly", NOW, zone_named("UTC"))
        assert await note_stop(desk, made.budget_id, november, 101 * USD)
        await budgets.remove(desk, by, made.budget_id)
        assert not await note_stop(desk, made.budget_id, november, 101 * USD)


async def test_a_period_that_is_over_is_still_watched_for_a_week(store, tmp_path):
    async with office(migrated_sqlite(tmp_path / "accounts.db")) as at:
        desk = msgspec.structs.replace(at.desk, clock=lambda: NOW)
        december = datetime(2026, 12, 3, tzinfo=UTC)
        await insert_calls(store, [spent(95)])
        for now in (december, december + timedelta(days=9)):
            await budgets.create(desk, at.by("admin"), NewBudget(name=f"until {now}", amount="100"))
            moved = msgspec.structs.replace(desk, clock=lambda now=now: now)
            watch = BudgetWatch(moved, store, at.people.engine)
            await watch.look()
            await watch.stop()
            with reading(at.people.engine) as connection:
                found = [row.period_start for row in connection.execute(sa.select(budget_alerts))]
            assert found == [datetime(2026, 11, 1, tzinfo=UTC)]


async def test_a_budget_and_a_delivery_that_cannot_be_read_keep_no_others_back(store, tmp_path):
    async with office(migrated_sqlite(tmp_path / "accounts.db")) as at:
        settings = msgspec.structs.replace(at.desk.settings, webhooks_private=True)
        desk = msgspec.structs.replace(at.desk, settings=settings, clock=lambda: NOW)
        await insert_calls(store, [spent(95)])
        with webhook() as hook:
            channels = [Channel(kind="slack", url=hook.url)]
            broken, _ = [
                await budgets.create(desk, at.by("admin"), NewBudget(name=n, amount="100", channels=channels))
                for n in ("broken", "whole")
            ]
            with writing(at.people.engine) as connection:
                connection.execute(
                    sa.update(budget_rows)
                    .where(budget_rows.c.budget_id == broken.budget_id)
                    .values(thresholds="[")
                )
                connection.execute(sa.insert(alert_deliveries).values(unreadable(desk)))
            metrics = Metrics()
            watch = BudgetWatch(desk, store, at.people.engine, metrics=metrics)
            await watch.look()
            await watch.stop()
        assert len(hook.came) == 1
    told = metrics.render().decode()
    assert 'tokentide_query_alert_deliveries_total{outcome="delivered"} 1.0' in told
    assert 'tokentide_query_alert_deliveries_total{outcome="given_up"} 1.0' in told


def unreadable(desk: Desk) -> dict[str, Any]:
    """Return a delivery to nobody knows where, at its last attempt."""
    return {
        "delivery_id": "bad", "org_id": "org_a", "sealed": desk.safe.seal("alert channels", "bad", "["),
        "body": "{}", "created_at": NOW, "next_attempt_at": NOW, "attempts": ATTEMPTS - 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answers", "internal", "taken"),
    [
        ("body without end", True, True),
        ("headers without end", True, False),
        ("at once", False, False),  # it is on this machine
    ],
)
async def test_where_alerts_go_can_neither_hold_them_up_nor_be_inside(tmp_path, answers, internal, taken):
    async with office(migrated_sqlite(tmp_path / "accounts.db")) as at:
        desk = msgspec.structs.replace(at.desk, clock=lambda: NOW)
        with webhook() as hook:
            hook.answers = answers
            channels = [Channel(kind="slack", url=hook.url.replace("127.0.0.1", "localhost"))]
            made = await budgets.create(
                desk, at.by("admin"), NewBudget(name="all", amount="100", channels=channels)
            )
            row = await budgets.one(desk, at.by("admin").principal, made.budget_id)
            async with writing_async(desk.engine) as connection:
                await decide(desk, connection, row, span_at("monthly", NOW, ZoneInfo("UTC")), 95 * USD)
            async with asyncio.timeout(5):
                settings = msgspec.structs.replace(desk.settings, webhooks_private=internal)
                told = msgspec.structs.replace(desk, settings=settings)
                await Deliveries(told, timeout_s=0.3).send_due()
        with reading(at.people.engine) as connection:
            (sent,) = [r.sent_at for r in connection.execute(sa.select(alert_deliveries)) if r.sealed]
    assert ((sent is not None), len(hook.came)) == (taken, int(internal))


async def test_an_alert_waits_for_the_broker_and_is_on_the_topic_once(store, tmp_path, tansu):
    async with office(migrated_sqlite(tmp_path / "accounts.db")) as at:
        await insert_calls(store, [spent(95)])
        await budgets.create(at.desk, at.by("admin"), NewBudget(name="all", amount="100"))
        away = Publisher("kafka://127.0.0.1:1", deadline_s=0.2)
        there = Publisher(tansu.url, deadline_s=15)
        await ensure_topics(tansu.url, embedded=True)
        for minutes, publisher in ((0, away), (2, there), (9, there)):
            now = NOW + timedelta(minutes=minutes)
            desk = msgspec.structs.replace(at.desk, clock=lambda now=now: now)
            watch = BudgetWatch(desk, store, at.people.engine, publisher)
            await watch.look()
            await watch.stop()
        for publisher in (away, there):
            await publisher.stop()
        (record,) = await all_records(tansu.url, ALERTS)
    told = msgspec.json.decode(record.value)
    assert (record.key, told["organisation"], told["used"], told["threshold"]) == (
        b"org_a",
        "org_a",
        "95",
        0.9,
    )


async def test_budgets_are_kept_by_admins_and_hide_what_is_secret_of_channels(api):
    hook = {"kind": "webhook", "url": "https://hooks.example/T0/secret-path", "secret": "s" * 20}
    budget = await made(api, channels=[hook, *MAIL], thresholds=[1, 0.5, 0.5])
    path = f"/budgets/{budget['budget_id']}"
    assert budget["channels"] == [
        {"kind": "webhook", "target": "hooks.example"}, {"kind": "email", "target": "boss@acme.example"},
    ]  # fmt: skip
    assert (budget["thresholds"], budget["amount"], budget["period"]) == ([0.5, 1.0], "100", "monthly")
    seen = await api.ask("GET", path, "admin")
    assert (seen.json(), seen.headers["etag"]) == (budget, '"v1"')
    changed = await api.ask("PATCH", path, "admin", body={"amount": "2.5"}, headers={"if-match": '"v1"'})
    assert (changed.json()["amount"], changed.json()["version"], len(changed.json()["channels"])) == (
        "2.5",
        2,
        2,
    )
    listed = [await api.ask("GET", "/budgets", role) for role in ("admin", "member", "viewer")]
    assert [answer.status_code for answer in listed] == [200, 200, 403]
    assert [len(answer.json()["items"]) for answer in listed[:2]] == [1, 0]
    assert (await api.ask("GET", f"{path}/progress", "member")).status_code == 404
    assert (await api.ask("POST", "/budgets", "member", body={"name": "x", "amount": "1"})).status_code == 403
    wrong = [
        {"amount": "0"}, {"amount": "-1"}, {"amount": "1", "unit": "tokens", "scope": "team"},
        {"thresholds": []}, {"thresholds": [0]}, {"channels": [{"kind": "webhook", "url": "https://x.example"}]},
        {"channels": [{"kind": "slack", "url": "file:///etc/passwd"}]}, {"scope_value": "x"}, {"surprise": 1},
        {"channels": [{"kind": "slack", "url": "http://[x/"}]},
    ]  # fmt: skip
    answers = [
        await api.ask("POST", "/budgets", "admin", body={"name": "x", "amount": "1", **more})
        for more in wrong
    ]
    assert {answer.status_code for answer in answers} == {400}
    assert (await api.ask("DELETE", path, "admin")).status_code == 204
    assert (await api.ask("GET", path, "admin")).status_code == 404
