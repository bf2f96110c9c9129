"""The audit log: who did what to which object, from where; in the transaction of what was done."""

from __future__ import annotations

import time
import uuid
from typing import Final, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import audit_log
from tokentide_common.database import utc_now
from tokentide_query_api.accounts.principal import Principal

Action = Literal[
    "budget.changed",
    "budget.created",
    "budget.removed",
    "calls.repriced",
    "device.approved",
    "device.denied",
    "invitation.accepted",
    "invitation.revoked",
    "invitation.sent",
    "key.changed",
    "key.issued",
    "key.revoked",
    "login.failed",
    "machine.changed",
    "machine.removed",
    "member.added",
    "member.changed",
    "member.removed",
    "organisation.changed",
    "organisation.closed",
    "organisation.created",
    "password.changed",
    "password.reset",
    "plan.changed",
    "plan.created",
    "plan.removed",
    "provider_key.forgotten",
    "provider_key.kept",
    "session.ended",
    "session.opened",
    "session.switched",
    "session.token_replayed",
    "team.changed",
    "team.created",
    "team.joined",
    "team.left",
    "team.removed",
    "user.changed",
    "user.email_verified",
    "user.identity_linked",
    "user.signed_up",
]
"""Everything that is logged, each by one name; docs/reference/accounts.md says what each is."""
_TIME_BITS: Final = 48


class Actor(msgspec.Struct, frozen=True):
    """Who does something, and from where."""

    kind: Literal["user", "key", "nobody"]
    """nobody: not logged in, as at a sign-up or a failed login."""
    id: str = ""
    name: str = ""
    address: str = ""
    request_id: str = ""

    @classmethod
    def of(cls, principal: Principal, address: str, request_id: str) -> Actor:
        """Return who a principal is in the log."""
        return cls(principal.kind, principal.actor_id, principal.email, address, request_id)


async def record(
    connection: AsyncConnection,
    org_id: str,
    actor: Actor,
    action: Action,
    on: tuple[str, str],
    **detail: object,
) -> None:
    """Add a line, which is there if and only if what it tells was committed.

    `on` is the kind and id of its object; `detail` has names and values of what
    changed, never a secret.
    """
    await connection.execute(
        sa.insert(audit_log).values(
            audit_id=_ordered_id(),
            org_id=org_id,
            at=utc_now(),
            actor_kind=actor.kind,
            actor_id=actor.id,
            actor_name=actor.name,
            action=action,
            object_kind=on[0],
            object_id=on[1],
            address=actor.address,
            request_id=actor.request_id,
            detail=msgspec.json.encode(detail).decode(),
        )
    )


def _ordered_id() -> str:
    """Return an id that sorts by time: milliseconds, then chance."""
    millis = time.time_ns() // 1_000_000
    return f"{millis:0{_TIME_BITS // 4}x}{uuid.uuid4().hex[:20]}"
