"""Alerts: decided once per budget, threshold and period, and told from an outbox."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import alert_deliveries, budget_alerts
from tokentide_common.database import insert_or
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.letters import Letter
from tokentide_query_api.money.budget_spans import crossed
from tokentide_query_api.money.budget_words import Channel, text_of
from tokentide_query_api.money.budgets import channels_of
from tokentide_query_api.periods import Period

TO_TOPIC: Final = b""
"""Instead of a sealed address: the alert goes on the topic `tokentide.alerts`."""
_PERIODS: Final = {"monthly": "month", "weekly": "week", "daily": "day"}


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of a crossed threshold; `alert_id` is the same at every attempt."""

    alert_id: str
    budget_id: str
    budget: str
    organisation: str
    scope: str
    scope_value: str
    period: str
    period_start: datetime
    period_end: datetime
    unit: str
    amount: str
    used: str
    threshold: float
    decided_at: datetime


async def decide(
    desk: Desk,
    connection: AsyncConnection,
    budget: Any,  # noqa: ANN401 -- a row of the table
    span: Period,
    used: int,
) -> list[Alert]:
    """Decide which thresholds are crossed for the first time, and post what is to be told of each."""
    decided = []
    now = desk.clock()
    for threshold in crossed(used, budget.amount, msgspec.json.decode(budget.thresholds, type=list[int])):
        alert = _alert(budget, span, used, threshold, now)
        row = {
            "budget_id": budget.budget_id,
            "period_start": span.start,
            "threshold": threshold,
            "alert_id": alert.alert_id,
            "used": used,
            "amount": budget.amount,
            "decided_at": now,
        }
        put = insert_or(desk.engine.sync_engine, budget_alerts).values(row)
        # The guarantee: whoever puts the row first has decided, and in the same transaction what is told of
        # it is posted: after a crash at any moment there are both or neither.
        once = put.on_conflict_do_nothing().returning(budget_alerts.c.alert_id)
        if (await connection.execute(once)).first() is not None:
            body = msgspec.json.encode(alert)
            await _put(connection, alert, f"{alert.alert_id}_topic", body)
            for number, channel in enumerate(channels_of(desk.safe, budget)):
                await _post(desk, connection, alert, channel, number)
            decided.append(alert)
    return decided


def wording(alert: Alert) -> str:
    """Return an alert in words. Pure."""
    part = f" of {alert.scope} {alert.scope_value}" if alert.scope_value else ""
    unit = "USD" if alert.unit == "usd" else "tokens"
    return (
        f"Budget {alert.budget}{part}: {alert.used} of {alert.amount} {unit} used in the"
        f" {_PERIODS[alert.period]} that began on {alert.period_start:%Y-%m-%d},"
        f" which is over {alert.threshold * 100:g} %."
    )


def body_of(alert: Alert, channel: Channel) -> bytes:
    """Return what a webhook of a kind takes. Pure."""
    if channel.kind == "slack":
        # Slack reads <, > and & as its own marks.
        text = wording(alert).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return msgspec.json.encode({"text": text})
    if channel.kind == "discord":
        return msgspec.json.encode({"content": wording(alert)[:2000], "allowed_mentions": {"parse": []}})
    return msgspec.json.encode(alert)


async def _post(desk: Desk, connection: AsyncConnection, alert: Alert, channel: Channel, number: int) -> None:
    if channel.kind == "email":
        # A name may hold anything but control characters, which the subject of a letter cannot have either.
        subject = f"Budget {alert.budget}: {alert.threshold * 100:g} % used"
        await desk.outbox.post(
            connection, Letter(channel.address or "", subject[:200], f"{wording(alert)}\n")
        )
        return
    delivery_id = f"{alert.alert_id}_{number}"
    sealed = desk.safe.seal("alert channels", delivery_id, msgspec.json.encode(channel).decode())
    await _put(connection, alert, delivery_id, body_of(alert, channel), sealed)


async def _put(
    connection: AsyncConnection, alert: Alert, delivery_id: str, body: bytes, sealed: bytes = TO_TOPIC
) -> None:
    row = {
        "delivery_id": delivery_id,
        "org_id": alert.organisation,
        "sealed": sealed,
        "body": body.decode(),
        "created_at": alert.decided_at,
        "next_attempt_at": alert.decided_at,
    }
    await connection.execute(sa.insert(alert_deliveries).values(row))


def _alert(budget: Any, span: Period, used: int, threshold: int, now: datetime) -> Alert:  # noqa: ANN401 -- a row
    return Alert(
        alert_id=f"alert_{uuid.uuid4().hex}",
        budget_id=budget.budget_id,
        budget=budget.name,
        organisation=budget.org_id,
        scope=budget.scope,
        scope_value=budget.scope_value,
        period=budget.period,
        period_start=span.start.astimezone(span.zone),
        period_end=span.end.astimezone(span.zone),
        unit=budget.unit,
        amount=text_of(budget.amount, budget.unit),
        used=text_of(used, budget.unit),
        threshold=threshold / 1000,
        decided_at=now,
    )
