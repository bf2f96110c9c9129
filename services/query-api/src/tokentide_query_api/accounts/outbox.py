"""Letters wait in the database, sealed, until they are sent; one of all replicas sends each."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tokentide_common.accounts_schema import outbox
from tokentide_common.database import reading_async, writing_async
from tokentide_common.errors import Unavailable
from tokentide_query_api.accounts.letters import Letter
from tokentide_query_api.accounts.safe import Safe

ATTEMPTS: Final = 10
LETTERS_KEPT: Final = timedelta(days=7)
"""After this a letter is deleted, sent or not."""
_FIRST_WAIT: Final = timedelta(seconds=60)  # longer than one attempt can take
_LONGEST_WAIT: Final = timedelta(hours=1)
_AT_ONCE: Final = 5
_log = structlog.get_logger(__name__)


class Carrier(Protocol):
    """Whoever carries letters out of the house."""

    async def carry(self, letter: Letter, message_id: str) -> None:
        """Carry one letter; raises `Unavailable` when it did not go."""


class _Claimed(msgspec.Struct, frozen=True):
    message_id: str
    recipient: str
    subject: str
    sealed: bytes
    attempts: int


class Outbox:
    """Posts letters in the transactions of what they tell, and sends them in the background."""

    def __init__(
        self, engine: AsyncEngine, safe: Safe, carrier: Carrier | None, clock: Callable[[], datetime]
    ) -> None:
        self._engine = engine
        self._safe = safe
        self._carrier = carrier
        self._clock = clock
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def post(self, connection: AsyncConnection, letter: Letter) -> None:
        """Put a letter into the outbox, in the caller's transaction; call `wake` when that is committed."""
        now, message_id = self._clock(), f"msg_{uuid.uuid4().hex}"
        await connection.execute(
            sa.insert(outbox).values(
                message_id=message_id,
                recipient=letter.recipient,
                subject=letter.subject,
                # It may hold a link that is good once: not for whoever reads the database.
                sealed=self._safe.seal("letters", message_id, letter.text),
                created_at=now,
                next_attempt_at=now,
            )
        )

    def wake(self) -> None:
        """Look for letters now."""
        self._news.set()

    def start(self, every_s: float = 5.0) -> None:
        """Send in the background until `stop`; without a carrier letters stay where they are, for a while."""
        if self._carrier is None:
            _log.warning("letters_are_not_sent", setting="TOKENTIDE_SMTP_URL", kept_days=LETTERS_KEPT.days)
        else:
            self._task = asyncio.create_task(self._keep_sending(self._carrier, every_s), name="outbox")

    async def stop(self) -> None:
        """Stop sending; what was not sent waits for the next start, or for another replica."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _keep_sending(self, carrier: Carrier, every_s: float) -> None:
        while True:
            try:
                while claimed := await self._claim():
                    await asyncio.gather(*(self._send(carrier, one) for one in claimed))
            except Unavailable:
                _log.warning("outbox_unavailable")
            # Not `wait_for`: woken and cancelled at the same moment, it would forget that it was cancelled.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every_s):
                    await self._news.wait()
            self._news.clear()

    async def _claim(self) -> Sequence[_Claimed]:
        now = self._clock()
        due = (outbox.c.sent_at.is_(None), outbox.c.next_attempt_at <= now, outbox.c.attempts < ATTEMPTS)
        columns = (outbox.c[name] for name in _Claimed.__struct_fields__)
        query = sa.select(*columns).where(*due).order_by(outbox.c.next_attempt_at).limit(_AT_ONCE)
        async with reading_async(self._engine) as connection:
            if (await connection.execute(query)).first() is None:
                return ()
        async with writing_async(self._engine) as connection:
            # The guarantee: a row that another replica has claimed is skipped now, and later is not due.
            rows = (await connection.execute(query.with_for_update(skip_locked=True))).all()
            for row in rows:
                wait = min(_FIRST_WAIT * 2**row.attempts, _LONGEST_WAIT)
                claimed = sa.update(outbox).where(outbox.c.message_id == row.message_id)
                await connection.execute(
                    claimed.values(attempts=row.attempts + 1, next_attempt_at=now + wait)
                )
        return [_Claimed(*row) for row in rows]

    async def _send(self, carrier: Carrier, claimed: _Claimed) -> None:
        text = self._safe.open("letters", claimed.message_id, claimed.sealed)
        if text is None:
            _log.warning("letter_cannot_be_opened", message_id=claimed.message_id)
            return
        try:
            await carrier.carry(Letter(claimed.recipient, claimed.subject, text), claimed.message_id)
        except Exception as exc:  # whatever it is: a letter that cannot be sent must not keep the others back
            last = claimed.attempts + 1 >= ATTEMPTS
            _log.warning(
                "letter_given_up" if last else "letter_not_sent",
                message_id=claimed.message_id,
                attempt=claimed.attempts + 1,
                # Of our own errors the words, of others the kind alone: those might quote the letter.
                reason=exc.detail if isinstance(exc, Unavailable) else type(exc).__name__,
            )
            return
        async with writing_async(self._engine) as connection:
            sent = sa.update(outbox).where(outbox.c.message_id == claimed.message_id)
            await connection.execute(sent.values(sent_at=self._clock()))
