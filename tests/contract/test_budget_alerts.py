"""Alerts on SQLite and PostgreSQL: decided once whoever looks, and told until somebody took them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from infra.account_desks import office, replica
from infra.webhooks import webhook
from tokentide_common.accounts_reader import AccountsReader
from tokentide_common.accounts_schema import alert_deliveries, budget_alerts, budgets, outbox
from tokentide_common.database import reading, reading_async, writing_async
from tokentide_common.stop_directory import LiveStops
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.money import budgets as kept
from tokentide_query_api.money.alerts import decide
from tokentide_query_api.money.budget_spans import span_at
from tokentide_query_api.money.budget_stops import note_stop
from tokentide_query_api.money.budget_words import BudgetChange, Channel, NewBudget
from tokentide_query_api.money.deliveries import Deliveries, tidy
from tokentide_query_api.periods import Period, zone_named

SECRET = "a secret of sixteen or more"
USD = 10**9
TESTS = Path(__file__).parents[1]
NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
NOVEMBER = span_at("monthly", NOW, zone_named("UTC"))
DECEMBER = span_at("monthly", datetime(2026, 12, 5, tzinfo=UTC), zone_named("UTC"))


@pytest.fixture
async def at(database_url):
    async with office(database_url) as opened:
        yield opened


def later(desk: Desk, **time: float) -> Desk:
    settings = msgspec.structs.replace(desk.settings, webhooks_private=True)
    return msgspec.structs.replace(desk, settings=settings, clock=lambda: NOW + timedelta(**time))


async def budget(at, *channels: Channel) -> sa.Row[Any]:
    wanted = NewBudget(name="all", amount="100", channels=list(channels))
    made = await kept.create(at.desk, at.by("admin"), wanted)
    return await kept.one(at.desk, at.by("admin").principal, made.budget_id)


async def judged(desk: Desk, row: sa.Row[Any], used: int, span: Period = NOVEMBER) -> list[float]:
    async with writing_async(desk.engine) as connection:
        return [alert.threshold for alert in await decide(desk, connection, row, span, used * USD)]


def stored(at, table: sa.Table) -> list[sa.Row[Any]]:
    with reading(at.people.engine) as connection:
        return list(connection.execute(sa.select(table)))


async def test_each_threshold_is_told_once_in_a_period_however_often_it_is_crossed(at):
    hook = Channel(kind="webhook", url="https://x.example/hook", secret=SECRET)
    row = await budget(at, hook, Channel(kind="email", address="boss@acme.example"))
    told = [await judged(at.desk, row, used) for used in (89, 90, 85, 95, 101, 99, 120)]
    assert told == [[], [0.9], [], [], [1.0], [], []]
    assert await judged(at.desk, row, 150, DECEMBER) == [0.9, 1.0]
    assert await judged(at.desk, row, 150) == []
    counts = [len(stored(at, table)) for table in (budget_alerts, alert_deliveries, outbox)]
    assert counts == [4, 8, 4], "each alert goes to the topic, the webhook and the mailbox"


async def test_of_replicas_that_decide_at_once_one_does(at, database_url):
    row = await budget(at, Channel(kind="slack", url="https://x.example/hook"))
    async with replica(database_url) as other:
        desks = [at.desk, other] * 4
        told = await asyncio.gather(*(judged(desk, row, 95) for desk in desks))
    assert sorted(told) == [[]] * 7 + [[0.9]]
    assert len(stored(at, alert_deliveries)) == 2, "to the topic and to the channel"


async def test_who_dies_before_the_end_has_decided_nothing_and_told_nobody(at):
    row = await budget(at, Channel(kind="slack", url="https://x.example/hook"))

    async def dying() -> None:
        async with writing_async(at.desk.engine) as connection:
            assert await decide(at.desk, connection, row, NOVEMBER, 95 * USD)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await dying()
    assert (stored(at, budget_alerts), stored(at, alert_deliveries)) == ([], [])
    assert await judged(at.desk, row, 95) == [0.9]


_DYING = """
import asyncio, os, signal, sys
import sqlalchemy as sa
from infra.account_desks import replica
from tokentide_common.accounts_schema import budgets
from tokentide_common.database import writing_async
from tokentide_query_api.money.alerts import decide
from tokentide_query_api.money.budget_spans import span_at
from tokentide_query_api.periods import zone_named
from datetime import UTC, datetime

async def main(url, before):
    async with replica(url) as desk:
        async with writing_async(desk.engine) as connection:
            row = (await connection.execute(sa.select(budgets))).one()
            span = span_at("monthly", datetime(2026, 11, 22, 10, tzinfo=UTC), zone_named("UTC"))
            assert await decide(desk, connection, row, span, 95 * 10**9)
            if before:
                os.kill(os.getpid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(sys.argv[1], sys.argv[2] == "before"))
"""


async def test_who_is_killed_has_told_all_or_nothing(at, database_url):
    row = await budget(at, Channel(kind="slack", url="https://x.example/hook"))
    for when, told in (("before", 0), ("after", 2)):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _DYING, database_url, when, env={**os.environ, "PYTHONPATH": str(TESTS)}
        )
        assert await child.wait() == -signal.SIGKILL
        assert len(stored(at, alert_deliveries)) == told, when
    assert await judged(at.desk, row, 95) == []


async def test_what_a_webhook_refuses_for_an_hour_is_told_when_it_is_back_once_and_signed(at):
    with webhook() as hook:
        row = await budget(at, Channel(kind="webhook", url=f"{hook.url}/hook", secret=SECRET))
        desk = later(at.desk)
        await judged(desk, row, 95)
        hook.status = 503
        minutes = [0, 0.4, 1, 2, 5, 9, 17, 33, 60]
        for minute in minutes:
            await Deliveries(later(at.desk, minutes=minute)).send_due()
        refused = len(hook.came)
        hook.status = 307
        await Deliveries(later(at.desk, hours=3)).send_due()
        hook.status = 200
        for hours in (5, 6, 30):
            await Deliveries(later(at.desk, hours=hours)).send_due()
    assert 5 <= refused < len(minutes)
    assert len(hook.came) == refused + 2, "a redirect is not followed, and what was taken is not sent again"
    assert len({headers["tokentide-delivery"] for headers, _ in hook.came}) == 1
    headers, body = hook.came[-1]
    seconds = int((NOW + timedelta(hours=5)).timestamp())
    digest = hmac.new(SECRET.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    assert headers["tokentide-signature"] == f"t={seconds},v1={digest}"
    told = msgspec.json.decode(body)
    assert (told["budget"], told["used"], told["amount"], told["threshold"]) == ("all", "95", "100", 0.9)
    assert told["period_start"].startswith("2026-11-01")
    (sent,) = [row.sent_at for row in stored(at, alert_deliveries) if row.sealed]
    assert sent == NOW + timedelta(hours=5)


async def test_what_was_taken_or_given_up_is_kept_for_a_week_and_what_waits_until_then(at):
    row = await budget(at, *(Channel(kind="slack", url=f"https://x.example/{n}") for n in range(3)))
    await judged(at.desk, row, 95)
    at_deliveries = alert_deliveries.c.delivery_id
    async with writing_async(at.desk.engine) as connection:
        for end, values in (("_0", {"sent_at": NOW}), ("_1", {"attempts": 30}), ("_2", {"attempts": 29})):
            named = sa.update(alert_deliveries).where(at_deliveries.endswith(end, autoescape=True))
            await connection.execute(named.values(created_at=NOW, **values))
    for days, left in ((6, 4), (8, 2)):
        await tidy(later(at.desk, days=days))
        assert len(stored(at, alert_deliveries)) == left, "the topic's, and the one that still waits"


async def test_a_webhook_beside_the_service_is_not_called_unless_settings_permit_it(at):
    with webhook() as hook:
        row = await budget(at, Channel(kind="slack", url=f"{hook.url}/hook"))
        await judged(later(at.desk), row, 95)
        strict = msgspec.structs.replace(later(at.desk), settings=at.desk.settings)
        with capture_logs() as logs:
            await Deliveries(strict).send_due()
        assert [line["reason"] for line in logs] == ["a private or reserved address"]
        assert hook.came == []


async def test_of_replicas_that_send_at_once_one_does(at, database_url):
    with webhook() as hook:
        row = await budget(at, *(Channel(kind="discord", url=f"{hook.url}/{n}") for n in range(5)))
        await judged(later(at.desk), row, 95)
        async with replica(database_url) as other:
            await asyncio.gather(*(Deliveries(later(desk)).send_due() for desk in (at.desk, other) * 3))
    assert len(hook.came) == 5


async def test_what_a_replica_notes_stops_calls_in_the_proxy_until_the_budget_is_raised(at, database_url):
    by = at.by("admin")
    wanted = NewBudget(name="t", scope="team", scope_value="core", amount="100", hard_stop=True)
    made = await kept.create(at.desk, by, wanted)
    with contextlib.closing(AccountsReader(database_url)) as accounts:
        stops = LiveStops(accounts.select, wall_clock=NOW.timestamp)

        async def stopped() -> bool:
            await stops.refresh()
            return stops.stop_of("org_a", [("team", "core")]) is not None

        assert not await stopped()
        noted = [await note_stop(at.desk, made.budget_id, NOVEMBER, used * USD) for used in (99, 100, 101)]
        assert (noted, await stopped()) == ([False, True, True], True)
        await kept.change(at.desk, by, made.budget_id, BudgetChange(amount="101.5"), made.version)
        assert not await stopped()
        await note_stop(at.desk, made.budget_id, NOVEMBER, 102 * USD)
        assert await stopped()
        await kept.remove(at.desk, by, made.budget_id)
        assert not await stopped()


async def test_addresses_and_secrets_of_channels_are_stored_sealed(at):
    row = await budget(
        at, Channel(kind="webhook", url="https://x.example/T0/very-secret-path", secret=SECRET)
    )
    await judged(at.desk, row, 95)
    async with reading_async(at.desk.engine) as connection:
        for table in (budgets, alert_deliveries):
            for found in await connection.execute(sa.select(table)):
                assert "very-secret" not in repr(found)
                assert SECRET not in repr(found)
