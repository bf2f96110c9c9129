"""The audit log as administrators read it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from tokentide_common.accounts_schema import audit_log
from tokentide_common.database import reading_async
from tokentide_common.errors import InvalidRequest
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.pages import Order, Page, page_of_rows
from tokentide_query_api.accounts.principal import Principal

_NEWEST_FIRST: Final = Order((audit_log.c.audit_id,), newest_first=True)


class AuditFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which lines; what is None is not asked for."""

    action: str | None = None
    actor_id: str | None = None
    object_kind: str | None = None
    object_id: str | None = None
    since: datetime | None = None
    before: datetime | None = None


class AuditLine(msgspec.Struct, frozen=True, kw_only=True):
    """Who did what to which object, from where."""

    audit_id: str
    at: datetime
    actor_kind: str
    actor_id: str
    actor_name: str
    action: str
    object_kind: str
    object_id: str
    address: str
    request_id: str
    detail: dict[str, Any]


class AuditPage(msgspec.Struct, frozen=True):
    """A page of the log, newest first."""

    items: list[AuditLine]
    next_cursor: str | None


async def listed(desk: Desk, principal: Principal, page: Page, wanted: AuditFilter) -> AuditPage:
    """Return a page of the organisation's log."""
    principal.require("admin")
    query = sa.select(audit_log).where(audit_log.c.org_id == principal.org_id)
    for name in ("action", "actor_id", "object_kind", "object_id"):
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(audit_log.c[name] == value)
    if wanted.since is not None:
        query = query.where(audit_log.c.at >= _instant(wanted.since))
    if wanted.before is not None:
        query = query.where(audit_log.c.at < _instant(wanted.before))
    async with reading_async(desk.engine) as connection:
        rows, following = await page_of_rows(connection, query, _NEWEST_FIRST, page)
    return AuditPage([_shown(row) for row in rows], following)


def _instant(time: datetime) -> datetime:
    try:
        if time.tzinfo is not None:
            return time.astimezone(UTC)
    except OverflowError:
        pass
    raise InvalidRequest("from and to are times with a zone, as RFC 3339 has them", code="invalid_period")


def _shown(row: sa.Row[Any]) -> AuditLine:
    facts = dict(row._mapping) | {"detail": msgspec.json.decode(row.detail)}
    return AuditLine(**{name: facts[name] for name in AuditLine.__struct_fields__})
