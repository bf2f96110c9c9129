"""Logging in a machine: it shows a code, its user approves that where they are logged in, and it gets keys.

As in RFC 8628. The keys are made when the machine fetches them, so that they are never stored.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import device_logins, machines
from tokentide_common.database import writing_async
from tokentide_common.errors import Forbidden, InvalidRequest, NotFound, Unavailable
from tokentide_query_api.accounts import audit
from tokentide_query_api.accounts.auth_shapes import (
    Decided,
    Decision,
    DeviceCodes,
    DeviceKeys,
    NewDevice,
    WaitingDevice,
)
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.device_keys import device_keys
from tokentide_query_api.accounts.lockout import count_attempt, forgive
from tokentide_query_api.accounts.login import Visitor
from tokentide_query_api.accounts.one_time import secret_digest
from tokentide_query_api.accounts.principal import Principal
from tokentide_query_api.accounts.standing import still_may

LIFETIME: Final = timedelta(minutes=10)
INTERVAL_S: Final = 5
_SOONEST: Final = timedelta(seconds=INTERVAL_S - 1)  # networks do not keep intervals to the moment
# No vowels, so that no words come out, and nothing that is read or typed as something else.
LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
_CODE: Final = re.compile(rf"[{LETTERS}]{{8}}")

Refusal = Literal["authorization_pending", "slow_down", "access_denied", "expired_device_code"]


class _Asked(msgspec.Struct, frozen=True):
    """What a machine learns: its keys, or why not."""

    keys: DeviceKeys | None = None
    refusal: Refusal = "authorization_pending"


async def begin(desk: Desk, device: NewDevice, visitor: Visitor) -> DeviceCodes:
    """Return the codes of a machine that wants to be somebody's."""
    await count_attempt(desk, ("devices from", visitor.address))
    now, device_code = desk.clock(), secrets.token_urlsafe(32)
    letters = "".join(secrets.choice(LETTERS) for _ in range(8))
    async with writing_async(desk.engine) as connection:
        await connection.execute(
            sa.insert(device_logins).values(
                device_digest=secret_digest(device_code),
                # Keyed: so short a code could be guessed back from a plain digest in its ten minutes.
                user_code_digest=desk.safe.digest("device codes", letters),
                machine_id=device.machine_id,
                machine_name=device.machine_name,
                address=visitor.address,
                created_at=now,
                expires_at=now + LIFETIME,
            )
        )
    return DeviceCodes(
        device_code=device_code,
        user_code=f"{letters[:4]}-{letters[4:]}",
        verification_uri=f"{desk.settings.link_base.rstrip('/')}/device",
        expires_in=int(LIFETIME.total_seconds()),
        interval=INTERVAL_S,
    )


async def decide(desk: Desk, principal: Principal, said: Decision, visitor: Visitor) -> Decided:
    """Approve or deny the machine that shows a code, in the organisation of `principal`.

    Raises `Forbidden` for who may not let machines in, `NotFound` for a code that nobody waits with,
    `RateLimited` after too many of those.
    """
    user_id = _who_may_decide(principal)
    await count_attempt(desk, ("device", user_id))
    now = desk.clock()
    async with writing_async(desk.engine) as connection:
        row = await _waiting(connection, desk.safe.digest("device codes", normal_code(said.user_code)), now)
        until = await still_may(connection, principal)
        if said.approve:
            await _must_not_be_anothers(connection, principal, row.machine_id)
        decided = sa.update(device_logins).where(device_logins.c.device_digest == row.device_digest)
        whose = {"user_id": user_id, "org_id": principal.org_id, "keys_until": until}
        await connection.execute(decided.values(decided_at=now, approved=said.approve, **whose))
        await forgive(desk, connection, ("device", user_id))
        actor = visitor.actor_of(principal)
        action: audit.Action = "device.approved" if said.approve else "device.denied"
        on = ("machine", row.machine_id)
        await audit.record(connection, principal.org_id, actor, action, on, asked_from=row.address)
    return Decided(
        machine_id=row.machine_id,
        machine_name=row.machine_name,
        address=row.address,
        asked_at=row.created_at,
        approved=said.approve,
    )


async def look_up(desk: Desk, principal: Principal, user_code: str) -> WaitingDevice:
    """Return which machine shows a code, so that people see what they decide about. Raises as `decide`."""
    user_id = _who_may_decide(principal)
    await count_attempt(desk, ("device", user_id))
    digest = desk.safe.digest("device codes", normal_code(user_code))
    async with writing_async(desk.engine) as connection:
        row = await _waiting(connection, digest, desk.clock())
        await forgive(desk, connection, ("device", user_id))
    return WaitingDevice(
        machine_id=row.machine_id,
        machine_name=row.machine_name,
        address=row.address,
        asked_at=row.created_at,
    )


async def ask(desk: Desk, device_code: str, visitor: Visitor) -> DeviceKeys:
    """Return the keys of a machine that was approved, once. Raises `InvalidRequest` with a code that says why
    there are none, or none yet.
    """
    async with writing_async(desk.engine) as connection:
        asked = await _asked(desk, connection, secret_digest(device_code), visitor)
    if asked.keys is None:
        raise _refused(asked.refusal)
    # They are made, and shown this once: with the database away now they are known when it is back.
    with contextlib.suppress(Unavailable):
        await desk.keys.refresh()
    return asked.keys


def normal_code(typed: str) -> str:
    """Return a code as it is compared, however somebody typed it. Raises `NotFound` for what is none."""
    letters = re.sub(r"[\s-]", "", typed).upper()
    if _CODE.fullmatch(letters) is None:
        raise _no_such_code()
    return letters


async def _asked(desk: Desk, connection: AsyncConnection, digest: str, visitor: Visitor) -> _Asked:
    # The lock: of two that ask at once with an approved code one gets keys.
    mine = device_logins.c.device_digest == digest
    row = (await connection.execute(sa.select(device_logins).where(mine).with_for_update())).first()
    now = desk.clock()
    if row is None or row.used_at is not None or row.expires_at <= now:
        return _Asked(refusal="expired_device_code")
    if row.decided_at is None:
        early = row.polled_at is not None and now - row.polled_at < _SOONEST
        await connection.execute(sa.update(device_logins).where(mine).values(polled_at=now))
        return _Asked(refusal="slow_down" if early else "authorization_pending")
    await connection.execute(sa.update(device_logins).where(mine).values(used_at=now))
    if not row.approved:
        return _Asked(refusal="access_denied")
    keys = await device_keys(desk, connection, row, visitor, now)
    return _Asked(keys=keys, refusal="access_denied")


def _refused(refusal: Refusal) -> InvalidRequest:
    match refusal:
        case "authorization_pending":
            return InvalidRequest(
                "nobody has decided yet: ask again after the interval", code="authorization_pending"
            )
        case "slow_down":
            return InvalidRequest("asked too soon: wait the whole interval", code="slow_down")
        case "access_denied":
            return InvalidRequest("this machine was not let in", code="access_denied")
        case "expired_device_code":
            return InvalidRequest(
                "this code was used before, has expired or is none of ours: begin anew",
                code="expired_device_code",
            )


def _who_may_decide(principal: Principal) -> str:
    principal.require("member")
    # The keys that a machine gets may do both.
    principal.require_scope("read")
    principal.require_scope("manage")
    if not principal.user_id:
        raise Forbidden("this needs a user, or a key that is theirs", code="user_needed")
    return principal.user_id


async def _waiting(connection: AsyncConnection, code_digest: str, now: datetime) -> sa.Row[Any]:
    waiting = (
        device_logins.c.user_code_digest == code_digest,
        device_logins.c.decided_at.is_(None),
        device_logins.c.expires_at > now,
    )
    row = (await connection.execute(sa.select(device_logins).where(*waiting).with_for_update())).first()
    if row is None:
        raise _no_such_code()
    return row


async def _must_not_be_anothers(connection: AsyncConnection, principal: Principal, machine_id: str) -> None:
    mine = (machines.c.org_id == principal.org_id, machines.c.machine_id == machine_id)
    owner = (await connection.execute(sa.select(machines.c.user_id).where(*mine))).scalar_one_or_none()
    if owner not in {None, principal.user_id} and not principal.at_least("admin"):
        raise Forbidden("this machine is somebody else's", code="attribution_not_allowed")


def _no_such_code() -> NotFound:
    return NotFound("no machine waits with this code: look at it again, or begin anew")
