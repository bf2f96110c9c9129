"""The end of an organisation: nobody belongs to it, nothing opens it, and what was done is remembered."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import (
    alert_deliveries,
    budget_alerts,
    budget_stops,
    budgets,
    device_logins,
    invitations,
    machines,
    memberships,
    organizations,
    provider_credentials,
    sessions,
    team_members,
    teams,
    user_plans,
)
from tokentide_query_api.accounts import audit
from tokentide_query_api.accounts.changes import Maker
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.keys import revoke_all


async def close_organization(desk: Desk, connection: AsyncConnection, by: Maker) -> None:
    """Take everything from an organisation whose row the caller has locked, but its name and audit log."""
    org_id, now = by.org_id, desk.clock()
    its_budgets = sa.select(budgets.c.budget_id).where(budgets.c.org_id == org_id)
    its_teams = sa.select(teams.c.team_id).where(teams.c.org_id == org_id)
    for forgotten in (
        # For good: no directory has it any more, and no login makes members of it.
        sa.update(organizations).where(organizations.c.org_id == org_id).values(closed_at=now),
        sa.delete(team_members).where(team_members.c.team_id.in_(its_teams)),
        sa.update(invitations)
        .where(invitations.c.org_id == org_id)
        .values(
            team_id=None,
            revoked_at=sa.func.coalesce(
                invitations.c.revoked_at, sa.literal(now, invitations.c.revoked_at.type)
            ),
        ),
        sa.delete(teams).where(teams.c.org_id == org_id),
        sa.delete(machines).where(machines.c.org_id == org_id),
        sa.delete(provider_credentials).where(provider_credentials.c.org_id == org_id),
        sa.delete(budget_alerts).where(budget_alerts.c.budget_id.in_(its_budgets)),
        sa.delete(budget_stops).where(budget_stops.c.budget_id.in_(its_budgets)),
        sa.delete(budgets).where(budgets.c.org_id == org_id),
        sa.delete(alert_deliveries).where(alert_deliveries.c.org_id == org_id),
        sa.delete(user_plans).where(user_plans.c.org_id == org_id),
        sa.delete(memberships).where(memberships.c.org_id == org_id),
        sa.update(device_logins)
        .where(device_logins.c.org_id == org_id, device_logins.c.used_at.is_(None))
        .values(approved=False),
        sa.update(sessions)
        .where(sessions.c.org_id == org_id, sessions.c.revoked_at.is_(None))
        .values(revoked_at=now),
    ):
        await connection.execute(forgotten)
    revoked = await revoke_all(desk, connection, by, [])
    on = ("organisation", org_id)
    await audit.record(connection, org_id, by.actor, "organisation.closed", on, keys_revoked=revoked)
