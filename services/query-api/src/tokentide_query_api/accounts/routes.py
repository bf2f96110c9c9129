"""All account routes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from litestar.handlers import HTTPRouteHandler

from tokentide_query_api.accounts.audit_routes import audit_handlers
from tokentide_query_api.accounts.auth_routes import auth_handlers
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.device_routes import device_handlers
from tokentide_query_api.accounts.invitation_routes import invitation_handlers
from tokentide_query_api.accounts.key_routes import key_handlers
from tokentide_query_api.accounts.machine_routes import machine_handlers
from tokentide_query_api.accounts.member_routes import member_handlers
from tokentide_query_api.accounts.oidc_routes import oidc_handlers
from tokentide_query_api.accounts.organization_routes import organization_handlers
from tokentide_query_api.accounts.provider_routes import provider_handlers
from tokentide_query_api.accounts.team_routes import team_handlers
from tokentide_query_api.money.plan_routes import plan_handlers

Opened = Callable[[], Desk]
_PARTS: Final[tuple[Callable[[Opened], Sequence[HTTPRouteHandler]], ...]] = (
    auth_handlers,
    device_handlers,
    key_handlers,
    audit_handlers,
    invitation_handlers,
    machine_handlers,
    member_handlers,
    organization_handlers,
    provider_handlers,
    team_handlers,
    oidc_handlers,
    plan_handlers,
)


def account_handlers(desk: Opened) -> Sequence[HTTPRouteHandler]:
    """Return the Litestar handlers of all account routes; `desk` is asked when a request comes."""
    return [handler for part in _PARTS for handler in part(desk)]
