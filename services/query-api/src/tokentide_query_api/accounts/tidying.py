"""Takes away what is over: sessions, links, codes, attempts and letters; nothing is kept for ever."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from tokentide_common.accounts_schema import (
    device_logins,
    login_failures,
    one_time_secrets,
    outbox,
    refresh_tokens,
    sessions,
)
from tokentide_common.database import writing_async
from tokentide_query_api.accounts.outbox import LETTERS_KEPT

KEPT: Final = timedelta(days=1)
"""For so long what is over is kept: replicas' clocks differ, and a replayed token still ends its session."""
_log = structlog.get_logger(__name__)


async def tidy(engine: AsyncEngine, now: datetime) -> None:
    """Delete what has been over for a while. Raises `Unavailable`."""
    past = now - KEPT
    over = sa.select(sessions.c.session_id).where(
        sa.or_(sessions.c.expires_at < past, sessions.c.revoked_at < past)
    )
    old = outbox.c.created_at < now - LETTERS_KEPT
    async with writing_async(engine) as connection:
        for statement in (
            sa.delete(refresh_tokens).where(refresh_tokens.c.session_id.in_(over)),  # they name the next ones
            sa.delete(sessions).where(sessions.c.session_id.in_(over)),
            sa.delete(one_time_secrets).where(one_time_secrets.c.expires_at < past),
            sa.delete(device_logins).where(device_logins.c.expires_at < past),
            sa.delete(login_failures).where(login_failures.c.last_failed_at < past),
            sa.delete(outbox).where(old, outbox.c.sent_at.is_not(None)),
        ):
            await connection.execute(statement)
        unsent = (await connection.execute(sa.delete(outbox).where(old))).rowcount
    if unsent:  # whoever waits for one hears nothing; whoever runs this must
        _log.warning("letters_deleted_unsent", letters=unsent, after_days=LETTERS_KEPT.days)
