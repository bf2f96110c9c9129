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
from tokentide_common.outbox import Record
from tokentide_common.topics import ALERTS
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.money.alerts import TO_TOPIC
from tokentide_query_api.money.budget_words import Channel
from tokentide_query_api.money.outside import NotOutside, post_outside

ATTEMPTS: Final = 30
_FIRST_WAIT: Final = timedelta(seconds=30)  # longer than one attempt can take
_LONGEST_WAIT: Final = timedelta(hours=1)
_TIMEOUT_S: Final = 10.0
_AT_ONCE: Final = 10
_log = structlog.get_logger(__name__)


def signature(secret: str, seconds: int, body: bytes) -> str:
    """Return what shows a webhook that a body is ours and when it was sent. Pure."""
    digest = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


class Deliveries:
    """The outbox of alerts. Several replicas may send from it: each row is one's at a time."""

    def __init__(self, desk: Desk, publisher: Publisher | None = None) -> None:
        self._desk = desk
        self._publisher = publisher

    async def send_due(self) -> None:
        """Send what is due; what is refused waits: half a minute, doubled up to an hour, for a day."""
        while claimed := await self._claim():
            # Where alerts go is one address each: whoever answers with another one is not followed.
            async with httpx.AsyncClient(timeout=_TIMEOUT_S, follow_redirects=False) as client:
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
        reason = await self._refused(client, row)
        if reason:
            event = "alert_given_up" if row.attempts + 1 >= ATTEMPTS else "alert_not_delivered"
            _log.warning(event, delivery_id=row.delivery_id, attempt=row.attempts + 1, reason=reason)
            return
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
        try:
            answer = await (
                client.post(channel.url or "", content=body, headers=headers)
                if anywhere
                else post_outside(client, channel.url or "", body, headers)
            )
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as exc:
            return str(exc) if isinstance(exc, NotOutside) else type(exc).__name__
        return "" if answer.is_success else f"status {answer.status_code}"

    async def _published(self, row: sa.Row[Any]) -> str:
        if self._publisher is None:
            return "no broker"
        record = Record(row.org_id.encode(), row.body.encode(), [("delivery", row.delivery_id.encode())])
        try:
            await self._publisher.publish(ALERTS, [record])
        except Unavailable as exc:
            return exc.stable_code
        return ""
