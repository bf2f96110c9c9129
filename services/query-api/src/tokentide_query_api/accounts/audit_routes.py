"""`/api/v1/audit`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, TypeAlias

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter

from tokentide_query_api.accounts import audit_pages
from tokentide_query_api.accounts.audit_pages import AuditFilter, AuditPage
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.openapi_answers import PRIVATE, problems
from tokentide_query_api.accounts.pages import DEFAULT_LIMIT, Limit, NextPage, Page
from tokentide_query_api.accounts.words import PLAIN

_AUDIT: Final = "/api/v1/audit"
_Text: TypeAlias = Annotated[
    str | None, QueryParameter(max_length=200, pattern=PLAIN, description="Only lines with this value.")
]
_From: TypeAlias = Annotated[
    datetime | None, QueryParameter(name="from", description="RFC 3339; from this instant on.")
]
_To: TypeAlias = Annotated[
    datetime | None, QueryParameter(name="to", description="RFC 3339; before this instant.")
]


def audit_handlers(desk: Callable[[], Desk]) -> Sequence[HTTPRouteHandler]:
    """Return the handler of the audit log."""

    @get(
        _AUDIT,
        summary="Who did what, newest first",
        tags=["audit"],
        responses=problems(),
        response_headers=PRIVATE,
    )
    async def list_audit(
        request: Request[Any, Any, Any],
        *,
        action: _Text = None,
        actor_id: _Text = None,
        object_kind: _Text = None,
        object_id: _Text = None,
        since: _From = None,
        before: _To = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: NextPage = None,
    ) -> AuditPage:
        principal = await desk().admit(request)
        wanted = AuditFilter(
            action=action,
            actor_id=actor_id,
            object_kind=object_kind,
            object_id=object_id,
            since=since,
            before=before,
        )
        page = Page.of(principal.org_id, _AUDIT, limit, cursor, wanted)
        return await audit_pages.listed(desk(), principal, page, wanted)

    return [list_audit]
