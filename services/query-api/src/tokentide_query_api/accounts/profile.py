"""What people see and change of themselves, and where they work."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import users
from tokentide_common.database import reading_async, writing_async
from tokentide_common.errors import Conflict, Forbidden, InvalidRequest, NotFound, Unauthorized
from tokentide_query_api.accounts import audit, letters
from tokentide_query_api.accounts.access_tokens import Claims
from tokentide_query_api.accounts.audit import Actor
from tokentide_query_api.accounts.auth_shapes import (
    Me,
    MyChange,
    PasswordChange,
    ShownOrganisation,
    Tokens,
)
from tokentide_query_api.accounts.changes import changing_people, must_be
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.invitees import accept_invitation, is_member
from tokentide_query_api.accounts.lockout import forgive
from tokentide_query_api.accounts.login import Visitor, replace_hash, right_user
from tokentide_query_api.accounts.principal import Principal
from tokentide_query_api.accounts.sessions import end_session, end_sessions_of, move_session
from tokentide_query_api.accounts.whoami import organisations_of, shown_user, tokens_answer


class MeNow(msgspec.Struct, frozen=True):
    """Who asks, and the version of what they may change of themselves."""

    me: Me
    version: int


async def who_am_i(desk: Desk, principal: Principal) -> MeNow:
    """Return who asks. Raises `Unauthorized` for who is nobody any more."""
    organisation = desk.people.organization(principal.org_id)
    if organisation is None:
        raise Unauthorized("a valid key or access token is needed")
    async with reading_async(desk.engine) as connection:
        row = await _own_row(connection, principal.user_id) if principal.user_id else None
        mine = await organisations_of(connection, principal.user_id) if principal.user_id else []
    me = Me(
        kind=principal.kind,
        user=shown_user(row) if row else None,
        organisation=ShownOrganisation(principal.org_id, organisation.name),
        role=principal.role,
        scopes=sorted(principal.scopes),
        organisations=mine if principal.kind == "user" else [],
    )
    return MeNow(me, row.version if row else 1)


async def change_me(
    desk: Desk, principal: Principal, change: MyChange, wanted: int | None, visitor: Visitor
) -> MeNow:
    """Change what a user says of themselves, and their password: all of it or nothing."""
    user_id = principal.require_user()
    values: dict[str, Any] = {
        name: value
        for name, value in msgspec.structs.asdict(change).items()
        if name != "password" and value is not msgspec.UNSET
    }
    new = change.password if isinstance(change.password, PasswordChange) else None
    checked = await _who_knows(desk, principal, new.old, visitor) if new else None
    hashed = await desk.passwords.hashed(new.new) if new else ""
    try:
        # A new name alone is of no concern to requests: no replica need read all people anew for it.
        unheard = not new and values.keys() <= {"display_name"}
        async with writing_async(desk.engine) if unheard else changing_people(desk) as connection:
            row = await _own_row(connection, user_id, lock=True)
            must_be(row.version, wanted)
            _must_have_handle(row, values)
            if checked is not None:
                await _change_password(desk, connection, checked, hashed, session_id=principal.session_id)
                await _record_everywhere(connection, visitor.actor(user_id, principal.email))
            named = sa.update(users).where(users.c.user_id == user_id)
            await connection.execute(named.values(**values, version=users.c.version + 1))
            if values:
                actor, on = visitor.actor(user_id, principal.email), ("user", user_id)
                await audit.record(
                    connection, principal.org_id, actor, "user.changed", on, fields=sorted(values)
                )
    except IntegrityError as exc:
        raise Conflict("somebody else has this handle", code="handle_taken") from exc
    if new:
        desk.outbox.wake()
    return await who_am_i(desk, principal)


async def log_out(desk: Desk, principal: Principal, visitor: Visitor) -> None:
    """End the session, with its access and refresh tokens."""
    user_id = principal.require_user()
    async with changing_people(desk) as connection:
        if await end_session(connection, principal.session_id, desk.clock()):
            actor, on = visitor.actor(user_id, principal.email), ("session", principal.session_id)
            await audit.record(connection, principal.org_id, actor, "session.ended", on)


async def switch(desk: Desk, principal: Principal, org_id: str, visitor: Visitor) -> Tokens:
    """Go on in another organisation of the same user. Raises `NotFound` where they are no member."""
    user_id = principal.require_user()
    async with writing_async(desk.engine) as connection:
        if not await is_member(connection, org_id, user_id):
            raise NotFound("you belong to no such organisation")
        opened = await move_session(desk, connection, Claims(user_id, principal.session_id, org_id))
        actor, on = visitor.actor(user_id, principal.email), ("session", principal.session_id)
        await audit.record(connection, org_id, actor, "session.switched", on)
        return await tokens_answer(connection, opened)


async def join(desk: Desk, principal: Principal, secret: str, visitor: Visitor) -> Tokens:
    """Accept an invitation as a user who is logged in, and go on in its organisation."""
    user_id = principal.require_user()
    actor = visitor.actor(user_id, principal.email)
    async with changing_people(desk) as connection:
        org_id = await accept_invitation(connection, secret, user_id, actor, desk.clock())
        opened = await move_session(desk, connection, Claims(user_id, principal.session_id, org_id))
        return await tokens_answer(connection, opened)


async def _who_knows(desk: Desk, principal: Principal, old: str, visitor: Visitor) -> sa.Row[Any]:
    try:
        return await right_user(desk, principal.email, old, visitor)
    except Unauthorized as exc:
        # Not 401: the session is as good as before, and a client need not refresh it.
        raise Forbidden("the old password is wrong", code="wrong_password") from exc


async def _change_password(
    desk: Desk, connection: AsyncConnection, checked: sa.Row[Any], hashed: str, *, session_id: str
) -> None:
    await replace_hash(connection, checked, hashed)
    await forgive(desk, connection, ("email", checked.email))
    # Whoever knew the old password, and came in with it, is out.
    await end_sessions_of(connection, checked.user_id, desk.clock(), but=session_id)
    await desk.outbox.post(connection, letters.password_changed(checked.email))


async def _record_everywhere(connection: AsyncConnection, actor: Actor) -> None:
    """Tell all organisations of a user of the new password: it is one for all of them."""
    for organisation in await organisations_of(connection, actor.id):
        await audit.record(connection, organisation.id, actor, "password.changed", ("user", actor.id))


async def _own_row(connection: AsyncConnection, user_id: str, *, lock: bool = False) -> sa.Row[Any]:
    query = sa.select(users).where(users.c.user_id == user_id)
    row = (await connection.execute(query.with_for_update(key_share=True) if lock else query)).first()
    if row is None:
        raise Unauthorized("a valid access token is needed: log in or refresh")
    return row


def _must_have_handle(row: sa.Row[Any], values: dict[str, Any]) -> None:
    if values.get("on_leaderboard", row.on_leaderboard) and not values.get("handle", row.handle):
        raise InvalidRequest(
            "the leaderboard shows a handle: choose one", fields={"handle": "needed with on_leaderboard"}
        )
