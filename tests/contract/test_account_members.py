"""Members on SQLite and PostgreSQL: roles, who sees whom, the last owner, what ends when somebody goes."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
import sqlalchemy as sa

from infra.account_desks import office, replica
from tokentide_common.accounts_schema import (
    api_keys,
    audit_log,
    device_logins,
    memberships,
    organizations,
    sessions,
    team_members,
)
from tokentide_common.accounts_schema import invitations as open_invitations
from tokentide_common.database import reading, utc_now, writing
from tokentide_common.errors import Conflict, Forbidden, InvalidRequest, NotFound, Unauthorized, Unavailable
from tokentide_query_api.accounts import invitations, keys, members, teams
from tokentide_query_api.accounts.audit import Actor
from tokentide_query_api.accounts.changes import changing_people
from tokentide_query_api.accounts.invitations import NewInvitation
from tokentide_query_api.accounts.invitees import accept_invitation
from tokentide_query_api.accounts.key_shapes import NewKey
from tokentide_query_api.accounts.one_time import secret_digest
from tokentide_query_api.accounts.pages import Page
from tokentide_query_api.accounts.teams import NewTeam


@pytest.fixture
async def at(database_url):
    async with office(database_url) as opened:
        yield opened


async def names(at, role: str, limit: int = 2) -> list[str]:
    by, found, cursor = at.by(role), [], None
    while True:
        answer = await members.listed(at.desk, by.principal, Page.of("org_a", "/users", limit, cursor))
        found += [f"{member.display_name} {member.email is not None}" for member in answer.items]
        cursor = answer.next_cursor
        if cursor is None:
            return found


def rows(at, query) -> list[tuple[object, ...]]:
    with reading(at.people.engine) as connection:
        return [tuple(row) for row in connection.execute(query)]


async def privacy(at, setting: str) -> None:
    with writing(at.people.engine) as connection:
        connection.execute(sa.update(organizations).values(privacy=setting))
        connection.execute(sa.text("UPDATE revisions SET revision = revision + 1"))
    await at.desk.people.refresh()


async def test_members_see_each_others_names_where_the_organisation_is_open_and_addresses_never(at):
    everybody = [f"{role} of org_a" for role in ("Admin", "Member", "Owner", "Viewer")]
    assert await names(at, "admin") == [f"{name} True" for name in everybody]
    assert await names(at, "member") == [f"{name} {name[0] == 'M'}" for name in everybody]
    assert await names(at, "viewer") == ["Viewer of org_a True"]
    for setting in ("private", "pseudonymous"):
        await privacy(at, setting)
        assert await names(at, "member") == ["Member of org_a True"]
        with pytest.raises(NotFound):
            await members.one(at.desk, at.by("member").principal, at.who("admin").user_id)


async def test_an_admin_neither_touches_nor_makes_owners_and_below_nobody_changes_anything(at):
    for maker, whom, role in [
        ("admin", "owner", "member"),
        ("admin", "member", "owner"),
        ("admin", "admin", "owner"),
        ("member", "viewer", "member"),
        ("viewer", "viewer", "admin"),
    ]:
        with pytest.raises(Forbidden):
            await members.change_role(at.desk, at.by(maker), at.who(whom).user_id, role, None)
    for maker, whom in [("admin", "owner"), ("member", "viewer"), ("viewer", "member")]:
        with pytest.raises(Forbidden):
            await members.remove(at.desk, at.by(maker), at.who(whom).user_id)
    with pytest.raises(NotFound):
        await members.remove(at.desk, at.by("owner"), at.who("member", "org_b").user_id)
    changed = await members.change_role(at.desk, at.by("admin"), at.who("member").user_id, "viewer", 1)
    assert (changed.role, changed.version) == ("viewer", 2)
    assert at.desk.people.member("org_a", at.who("member").user_id).role == "viewer"
    with pytest.raises(Conflict):
        await members.change_role(at.desk, at.by("admin"), at.who("member").user_id, "admin", 1)


async def test_the_last_owner_neither_leaves_nor_becomes_anything_else(at):
    owner = at.by("owner")
    with pytest.raises(Conflict):
        await members.remove(at.desk, owner, owner.principal.user_id)
    with pytest.raises(Conflict):
        await members.change_role(at.desk, owner, owner.principal.user_id, "admin", None)


async def test_of_two_owners_who_go_at_once_one_stays(at, database_url):
    second = at.by(at.people.join("org_a", "owner"))
    first = at.by("owner")
    async with replica(database_url) as other:
        done = await asyncio.gather(
            members.remove(at.desk, first, first.principal.user_id),
            members.change_role(other, second, second.principal.user_id, "member", None),
            members.remove(other, second, second.principal.user_id),
            return_exceptions=True,
        )
    assert any(isinstance(error, Conflict | NotFound) for error in done)
    owners = sa.select(memberships.c.user_id).where(
        memberships.c.org_id == "org_a", memberships.c.role == "owner"
    )
    assert len(rows(at, owners)) == 1


async def test_who_is_removed_has_no_key_no_session_no_team_and_no_login_on_its_way(at):
    gone, now = at.who("member"), utc_now()
    own = await keys.issue(at.desk, at.by("member"), NewKey(kind="m", name="laptop"))
    other = await keys.issue(at.desk, at.by("admin"), NewKey(kind="m", name="ci"))
    team = await teams.create(at.desk, at.by("admin"), NewTeam("Tide"))
    await teams.add_person(at.desk, at.by("admin"), team.team_id, gone.user_id)
    login = {"device_digest": "d", "user_code_digest": "u", "machine_id": "m", "created_at": now}
    login |= {"expires_at": now, "approved": True, "user_id": gone.user_id, "org_id": "org_a"}
    elsewhere = at.people.join("org_b", "member", person=gone)
    with writing(at.people.engine) as connection:
        connection.execute(sa.insert(device_logins).values(login))
    await members.remove(at.desk, at.by("admin"), gone.user_id)
    with pytest.raises(Unauthorized):
        at.desk.keys.resolve(own.key, "m")
    assert at.desk.keys.resolve(other.key, "m")
    assert at.desk.people.member("org_a", gone.user_id) is None
    assert at.desk.people.member("org_b", gone.user_id) is not None
    assert at.desk.people.has_ended(gone.session_id)
    assert not at.desk.people.has_ended(elsewhere.session_id)
    assert rows(at, sa.select(team_members)) == []
    assert rows(at, sa.select(device_logins.c.approved)) == [(False,)]
    actions = [action for (action,) in rows(at, sa.select(audit_log.c.action).order_by(audit_log.c.audit_id))]
    assert sorted(actions[-2:]) == ["key.revoked", "member.removed"]
    with pytest.raises(NotFound):
        await members.remove(at.desk, at.by("admin"), gone.user_id)


async def test_a_key_made_while_its_owner_is_removed_does_not_stay(at, database_url):
    gone = at.by("member")
    async with replica(database_url) as other:
        done = await asyncio.gather(
            *(keys.issue(other, gone, NewKey(kind="m", name="late")) for _ in range(4)),
            members.remove(at.desk, at.by("admin"), gone.principal.user_id),
            *(keys.issue(other, gone, NewKey(kind="p", name="later")) for _ in range(4)),
            return_exceptions=True,
        )
    assert {type(error) for error in done if isinstance(error, Exception)} <= {Unauthorized}
    live = sa.select(api_keys.c.key_id).where(api_keys.c.revoked_at.is_(None))
    assert rows(at, live) == []


def invited_by(at, maker, email: str, role: str, secret: str) -> None:
    now = utc_now()
    row = {"invitation_id": f"inv_{secret}", "org_id": "org_a", "email": email, "role": role}
    row |= {"digest": secret_digest(secret), "invited_by": maker, "created_at": now}
    with writing(at.people.engine) as connection:
        row |= {"expires_at": now + timedelta(days=1)}
        connection.execute(sa.insert(open_invitations).values(row))


async def accept(at, person, secret: str) -> None:
    actor = Actor("user", person.user_id, person.email)
    async with changing_people(at.desk) as connection:
        await accept_invitation(connection, secret, person.user_id, actor, utc_now())


async def test_invitations_end_with_who_made_them_and_give_no_more_than_they_have(at):
    admin = at.by("admin").principal.user_id
    friend, other = at.who("member", "org_b"), at.who("viewer", "org_b")
    invited_by(at, admin, friend.email, "admin", "one")
    invited_by(at, admin, other.email, "admin", "two")
    await members.change_role(at.desk, at.by("owner"), admin, "viewer", None)
    await accept(at, friend, "one")
    assert at.desk.people.member("org_a", friend.user_id).role == "viewer"
    await members.remove(at.desk, at.by("owner"), admin)
    with pytest.raises(InvalidRequest):
        await accept(at, other, "two")
    # Also one of somebody who went before invitations ended with them.
    invited_by(at, admin, other.email, "member", "three")
    with pytest.raises(InvalidRequest):
        await accept(at, other, "three")
    assert at.desk.people.member("org_a", other.user_id) is None


async def test_accepting_while_who_invited_is_removed_leaves_no_deadlock(at, database_url):
    gone, friends = at.who("admin"), [at.people.join("org_b", "member") for _ in range(3)]
    for number, friend in enumerate(friends):
        invited_by(at, gone.user_id, friend.email, "member", f"s{number}")
    done = await asyncio.gather(
        *(accept(at, friend, f"s{number}") for number, friend in enumerate(friends)),
        members.remove(at.desk, at.by("owner"), gone.user_id),
        return_exceptions=True,
    )
    assert {type(error) for error in done if isinstance(error, Exception)} <= {InvalidRequest}
    still_open = sa.select(open_invitations.c.email).where(open_invitations.c.revoked_at.is_(None))
    assert rows(at, still_open.where(open_invitations.c.accepted_at.is_(None))) == []


async def test_when_the_log_cannot_be_written_nothing_is_changed(at):
    with writing(at.people.engine) as connection:
        connection.execute(sa.text("ALTER TABLE audit_log RENAME TO gone"))
    gone = at.who("member")
    for attempt in (
        lambda: members.remove(at.desk, at.by("admin"), gone.user_id),
        lambda: members.change_role(at.desk, at.by("admin"), gone.user_id, "viewer", None),
        lambda: keys.issue(at.desk, at.by("member"), NewKey(kind="m", name="x")),
        lambda: invitations.invite(at.desk, at.by("admin"), NewInvitation("a@b.example")),
    ):
        with pytest.raises(Unavailable):
            await attempt()
    assert rows(at, sa.select(api_keys.c.key_id)) == []
    assert at.desk.people.member("org_a", gone.user_id).role == "member"
    ended = sa.select(sessions.c.session_id).where(sessions.c.revoked_at.is_not(None))
    assert rows(at, ended) == []
