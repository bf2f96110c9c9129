"""Sends what alerts tell to webhooks, signed, and to the topic, again and again until it was taken."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import httpx
import msgspec
import sqlalchemy as sa
import structlog

from tokentide_common.accounts_schema import alert_deliveries
from tokentide_common.broker import Publisher
from tokentide_common.database import reading_async, writing_async
from tokentide_common.errors import Unavailable
from tokentide_common.metrics import Metrics
from tokentide_common.outbox import Record
from tokentide_common.topics import ALERTS
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.money.alerts import TO_TOPIC
from tokentide_query_api.money.budget_words import Channel
from tokentide_query_api.money.outside import NotOutside, post_anywhere, post_outside

ATTEMPTS: Final = 30
_FIRST_WAIT: Final = timedelta(seconds=30)  # longer than one attempt can take
_LONGEST_WAIT: Final = timedelta(hours=1)
_KEPT: Final = timedelta(days=7)
_AT_ONCE: Final = 10
_log = structlog.get_logger(__name__)


def signature(secret: str, seconds: int, body: bytes) -> str:
    """Return what shows a webhook that a body is ours and when it was sent. Pure."""
    digest = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


class Deliveries:
    """The outbox of alerts. Several replicas may send from it: each row is one's at a time."""

    def __init__(
        self,
        desk: Desk,
        publisher: Publisher | None = None,
        metrics: Metrics | None = None,
        *,
        timeout_s: float = 10.0,
    ) -> None:
        self._desk = desk
        self._publisher = publisher
        self._metrics = metrics or Metrics()
        self._timeout_s = timeout_s

    async def send_due(self) -> None:
        """Send what is due; what is refused waits: half a minute, doubled up to an hour, for a day.

        Raises `Unavailable` when it cannot be read what is due.
        """
        while claimed := await self._claim():
            # Where alerts go is one address each: whoever answers with another one is not followed.
            async with httpx.AsyncClient(timeout=self._timeout_s, follow_redirects=False) as client:
                await asyncio.gather(*(self._send(client, row) for row in claimed))

    async def _claim(self) -> Sequence[sa.Row[Any]]:
        now, columns = self._desk.clock(), alert_deliveries.c
        due: tuple[sa.ColumnElement[bool], ...] = (
            columns.sent_at.is_(None),
            columns.next_attempt_at <= now,
            columns.attempts < ATTEMPTS,
        )
        if self._publisher is None:
            due = (*due, columns.sealed != TO_TOPIC)
        query = sa.select(alert_deliveries).where(*due).order_by(columns.next_attempt_at).limit(_AT_ONCE)
        async with reading_async(self._desk.engine) as connection:
            if (await connection.execute(query)).first() is None:
                return ()
        async with writing_async(self._desk.engine) as connection:
            # The guarantee: a row that another replica has claimed is skipped now, and later is not due.
            rows = (await connection.execute(query.with_for_update(skip_locked=True))).all()
            for row in rows:
                wait = min(_FIRST_WAIT * 2 ** min(row.attempts, 10), _LONGEST_WAIT)
                claimed = sa.update(alert_deliveries).where(columns.delivery_id == row.delivery_id)
                await connection.execute(
                    claimed.values(attempts=row.attempts + 1, next_attempt_at=now + wait)
                )
        return rows

    async def _send(self, client: httpx.AsyncClient, row: sa.Row[Any]) -> None:
        try:
            reason = await self._refused(client, row)
            if not reason:
                await self._note_sent(row)
        except Exception as exc:  # whatever it is: one delivery's trouble keeps no other back
            reason = type(exc).__name__  # never its words: they might quote where it went
        is_last = row.attempts + 1 >= ATTEMPTS
        outcome = "delivered" if not reason else "given_up" if is_last else "refused"
        self._metrics.counter("tokentide_query_alert_deliveries_total", outcome=outcome).inc()
        if reason:
            event = "alert_given_up" if is_last else "alert_not_delivered"
            _log.warning(event, delivery_id=row.delivery_id, attempt=row.attempts + 1, reason=reason)

    async def _note_sent(self, row: sa.Row[Any]) -> None:
        async with writing_async(self._desk.engine) as connection:
            sent = sa.update(alert_deliveries).where(alert_deliveries.c.delivery_id == row.delivery_id)
            await connection.execute(sent.values(sent_at=self._desk.clock()))

    async def _refused(self, client: httpx.AsyncClient, row: sa.Row[Any]) -> str:
        """Try to deliver; return why it was not taken, never with a word of where it went."""
        if row.sealed == TO_TOPIC:
            return await self._published(row)
        text = self._desk.safe.open("alert channels", row.delivery_id, row.sealed)
        if text is None:
            return "sealed under another secret key"
        channel = msgspec.json.decode(text, type=Channel)
        body = row.body.encode()
        headers = {"content-type": "application/json", "tokentide-delivery": row.delivery_id}
        if channel.secret is not None:
            seconds = int(self._desk.clock().timestamp())
            headers["tokentide-signature"] = signature(channel.secret, seconds, body)
        settings = self._desk.settings
        anywhere = settings.embedded or settings.webhooks_private
        post = post_anywhere if anywhere else post_outside
        try:
            # The time is of the whole attempt: whoever answers byte by byte keeps nobody waiting longer.
            async with asyncio.timeout(self._timeout_s):
                status = await post(client, channel.url or "", body, headers)
        except NotOutside as exc:
            return str(exc)
        return "" if httpx.codes.is_success(status) else f"status {status}"

    async def _published(self, row: sa.Row[Any]) -> str:
        if self._publisher is None:
            return "no broker"
        record = Record(row.org_id.encode(), row.body.encode(), [("delivery", row.delivery_id.encode())])
        try:
            await self._publisher.publish(ALERTS, [record])
        except Unavailable as exc:
            return exc.stable_code
        return ""


async def tidy(desk: Desk) -> None:
    """Delete what was taken, or given up, a week ago. Raises `Unavailable`."""
    columns = alert_deliveries.c
    over = sa.delete(alert_deliveries).where(
        columns.created_at < desk.clock() - _KEPT,
        sa.or_(columns.sent_at.is_not(None), columns.attempts >= ATTEMPTS),
    )
    async with writing_async(desk.engine) as connection:
        await connection.execute(over)
