"""Teams, machines, organisations, invitations, providers' keys and the audit log, on both databases."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from infra.account_desks import office, replica
from infra.accounts_people import SECRET
from tokentide_common import accounts_schema as tables
from tokentide_common.accounts_schema import (
    api_keys,
    audit_log,
    invitations,
    machines,
    memberships,
    outbox,
    provider_credentials,
)
from tokentide_common.database import reading, utc_now, writing
from tokentide_common.errors import Conflict, Forbidden, InvalidRequest, NotFound, RateLimited, Unauthorized
from tokentide_common.vault import Vault
from tokentide_query_api.accounts import audit_pages, keys, organizations, providers, teams
from tokentide_query_api.accounts import invitations as inviting
from tokentide_query_api.accounts import machines as devices
from tokentide_query_api.accounts.audit_pages import AuditFilter
from tokentide_query_api.accounts.invitations import NewInvitation
from tokentide_query_api.accounts.key_shapes import NewKey
from tokentide_query_api.accounts.lockout import count_attempt
from tokentide_query_api.accounts.machines import MachineChange
from tokentide_query_api.accounts.organizations import NewOrganization, OrganizationChange
from tokentide_query_api.accounts.pages import Page
from tokentide_query_api.accounts.teams import NewTeam, TeamChange


@pytest.fixture
async def at(database_url):
    async with office(database_url) as opened:
        yield opened


def rows(at, query) -> list[tuple[object, ...]]:
    with reading(at.people.engine) as connection:
        return [tuple(row) for row in connection.execute(query)]


def page(limit: int = 50, cursor: str | None = None, *question: object) -> Page:
    return Page.of("org_a", "/x", limit, cursor, *question)


async def test_two_teams_never_have_one_name_and_another_organisations_may(at):
    names = await asyncio.gather(
        *(teams.create(at.desk, at.by("admin"), NewTeam("Tide")) for _ in range(3)), return_exceptions=True
    )
    assert [type(answer) for answer in names if isinstance(answer, Exception)] == [Conflict] * 2
    theirs = await teams.create(at.desk, at.by("admin", "org_b"), NewTeam("Tide"))
    (ours,) = (await teams.listed(at.desk, at.by("member").principal, page())).items
    other = await teams.create(at.desk, at.by("admin"), NewTeam("Ebb", department="Sea"))
    with pytest.raises(Conflict):
        await teams.change(at.desk, at.by("admin"), other.team_id, TeamChange(name="Tide"), 1)
    changed = await teams.change(at.desk, at.by("admin"), other.team_id, TeamChange(name="Flood"), 1)
    assert (changed.name, changed.department, changed.version) == ("Flood", "Sea", 2)
    for wrong in (theirs.team_id, "team_none"):
        with pytest.raises(NotFound):
            await teams.one(at.desk, at.by("owner").principal, wrong)
        with pytest.raises(NotFound):
            await teams.add_person(at.desk, at.by("owner"), wrong, at.who("member").user_id)
    with pytest.raises(NotFound):
        await teams.add_person(at.desk, at.by("owner"), ours.team_id, at.who("member", "org_b").user_id)


async def test_a_team_has_whom_it_was_given_and_leaves_nothing_behind(at):
    admin, member = at.by("admin"), at.who("member").user_id
    team = await teams.create(at.desk, admin, NewTeam("Tide"))
    for _ in range(2):
        await teams.add_person(at.desk, admin, team.team_id, member)
    await inviting.invite(at.desk, admin, NewInvitation("new@org_a.example", team_id=team.team_id))
    inside = await teams.people_of(at.desk, admin.principal, team.team_id, page())
    assert [person.user_id for person in inside.items] == [member]
    await teams.take_out(at.desk, admin, team.team_id, member)
    await teams.take_out(at.desk, admin, team.team_id, member)
    await teams.add_person(at.desk, admin, team.team_id, member)
    await teams.remove(at.desk, admin, team.team_id)
    assert (await teams.listed(at.desk, admin.principal, page())).items == []
    logged = [action for (action,) in rows(at, sa.select(audit_log.c.action).order_by(audit_log.c.audit_id))]
    assert [logged.count(f"team.{what}") for what in ("joined", "left", "removed")] == [2, 1, 1]


def seen(at, machine_id: str, user_id: str | None, org: str = "org_a") -> None:
    row = {"org_id": org, "machine_id": machine_id, "user_id": user_id, "name": "host"}
    times = {"first_seen_at": utc_now(), "last_seen_at": utc_now()}
    with writing(at.people.engine) as connection:
        connection.execute(sa.insert(machines).values(row | times))


async def test_a_machine_is_its_users_and_its_keys_end_with_it(at):
    member = at.by("member")
    seen(at, "a/b c", member.principal.user_id)
    seen(at, "other", at.who("admin").user_id)
    seen(at, "a/b c", None, "org_b")
    own, reading = [
        await keys.issue(at.desk, member, NewKey(kind=kind, name="own", machine_id="a/b c")) for kind in "ma"
    ]
    assert [m.machine_id for m in (await devices.listed(at.desk, member.principal, page())).items] == [
        "a/b c"
    ]
    for hidden in ("other", "none", "\0", "x" * 300):
        with pytest.raises(NotFound):
            await devices.one(at.desk, member.principal, hidden)
    renamed = await devices.change(at.desk, member, "a/b c", MachineChange(name="laptop"), 1)
    assert (renamed.name, renamed.version) == ("laptop", 2)
    with pytest.raises(Forbidden):
        await devices.change(at.desk, member, "a/b c", MachineChange(user_id=None), 2)
    theirs = MachineChange(user_id=at.who("member", "org_b").user_id)
    with pytest.raises(InvalidRequest):
        await devices.change(at.desk, at.by("admin"), "other", theirs, 1)
    await devices.remove(at.desk, member, "a/b c")
    for key in (own.key, reading.key):
        with pytest.raises(Unauthorized):
            at.desk.keys.resolve(key, "ma")
    assert sorted(rows(at, sa.select(machines.c.org_id, machines.c.machine_id))) == [
        ("org_a", "other"),
        ("org_b", "a/b c"),
    ]


async def test_an_organisation_is_changed_by_one_of_two_who_saw_the_same(at, database_url):
    async with replica(database_url) as other:
        done = await asyncio.gather(
            *(
                organizations.change(desk, at.by("admin"), "org_a", OrganizationChange(name=f"New {n}"), 1)
                for n, desk in enumerate([at.desk, other] * 2)
            ),
            return_exceptions=True,
        )
    assert sorted(type(answer) is Conflict for answer in done) == [False, True, True, True]
    kept = await organizations.change(
        at.desk, at.by("owner"), "org_a", OrganizationChange(time_zone="Asia/Kathmandu", privacy="private"), 2
    )
    assert (kept.name[:3], kept.time_zone, kept.currency) == ("New", "Asia/Kathmandu", "USD")
    assert at.desk.people.organization("org_a").privacy == "private"
    wrong = OrganizationChange(time_zone="../../etc/passwd")
    with pytest.raises(InvalidRequest):
        await organizations.change(at.desk, at.by("owner"), "org_a", wrong, None)
    for maker, org, error in [("member", "org_a", Forbidden), ("owner", "org_b", NotFound)]:
        with pytest.raises(error):
            await organizations.change(at.desk, at.by(maker), org, OrganizationChange(name="x"), None)


async def test_whoever_founds_an_organisation_owns_it_and_belongs_to_the_old_one_too(at):
    viewer = at.by("viewer")
    made = await organizations.found(at.desk, viewer, NewOrganization("Mine", time_zone="Europe/Berlin"))
    assert at.desk.people.member(made.org_id, viewer.principal.user_id).role == "owner"
    listed = await organizations.listed(at.desk, viewer.principal, page())
    assert [(o.name, o.role) for o in listed.items] == [("Mine", "owner"), ("org_a", "viewer")]
    with pytest.raises(NotFound):
        await organizations.one(at.desk, viewer.principal, made.org_id)


async def test_a_closed_organisation_has_nobody_and_nothing_but_its_log(at):
    issued = await keys.issue(at.desk, at.by("admin"), NewKey(kind="p", name="x", owner_id=None))
    theirs = await keys.issue(at.desk, at.by("admin", "org_b"), NewKey(kind="p", name="x"))
    await inviting.invite(at.desk, at.by("admin"), NewInvitation("new@org_a.example"))
    team = await teams.create(at.desk, at.by("admin"), NewTeam("Tide"))
    await teams.add_person(at.desk, at.by("admin"), team.team_id, at.who("member").user_id)
    seen(at, "m1", None)
    with pytest.raises(Forbidden):
        await organizations.close(at.desk, at.by("admin"), "org_a", None)
    await organizations.close(at.desk, at.by("owner"), "org_a", 1)
    with pytest.raises(Unauthorized):
        at.desk.keys.resolve(issued.key, "p")
    assert at.desk.keys.resolve(theirs.key, "p")
    for role in ("owner", "viewer"):
        assert at.desk.people.member("org_a", at.who(role).user_id) is None
        assert at.desk.people.has_ended(at.who(role).session_id)
        assert at.desk.people.member("org_b", at.who(role, "org_b").user_id) is not None
    assert rows(at, sa.select(machines)) == []
    assert rows(at, sa.select(invitations.c.invitation_id).where(invitations.c.revoked_at.is_(None))) == []
    last = sa.select(audit_log.c.action).where(audit_log.c.action == "organisation.closed")
    assert rows(at, last) == [("organisation.closed",)]


async def test_an_organisation_is_closed_by_who_is_an_owner_still_and_stays_closed(at):
    second = at.by(at.people.join("org_a", "owner"))
    with writing(at.people.engine) as connection:  # elsewhere, a moment ago
        demoted = sa.update(memberships).where(memberships.c.user_id == second.principal.user_id)
        connection.execute(demoted.values(role="admin"))
    with pytest.raises(Unauthorized):
        await organizations.close(at.desk, second, "org_a", 1)
    assert at.desk.people.organization("org_a") is not None
    await organizations.close(at.desk, at.by("owner"), "org_a", 1)
    assert at.desk.people.organization("org_a") is None
    with pytest.raises(NotFound):
        await organizations.change(at.desk, at.by("owner"), "org_a", OrganizationChange(name="Again"), None)


async def test_of_invitations_at_once_to_one_address_one_stays_open(at, database_url):
    async with replica(database_url) as other:
        wanted = NewInvitation("new@org_a.example")
        await asyncio.gather(
            *(inviting.invite(desk, at.by("admin"), wanted) for desk in (at.desk, other, other)),
            return_exceptions=True,
        )
    open_ones = sa.select(invitations.c.email).where(invitations.c.revoked_at.is_(None))
    assert rows(at, open_ones) == [("new@org_a.example",)]


async def test_nobody_founds_more_organisations_at_once_than_one_by_one(at, database_url):
    async with replica(database_url) as other:
        done = await asyncio.gather(
            *(
                organizations.found(desk, at.by("viewer"), NewOrganization(f"Mine {n}"))
                for n, desk in enumerate([at.desk, other] * 12)
            ),
            return_exceptions=True,
        )
    assert [type(answer) for answer in done if isinstance(answer, Exception)] == [Conflict] * 4


async def test_invitations_fill_neither_one_mailbox_nor_the_table(at):
    admin, now = at.by("admin"), utc_now()
    address = NewInvitation("New@org_a.example")
    for _ in range(3):
        await inviting.invite(at.desk, admin, address)
    with pytest.raises(RateLimited):
        await inviting.invite(at.desk, admin, address)
    for _ in range(7):
        await count_attempt(at.desk, ("letters of all", "invitation:new@org_a.example"))
    before = len(rows(at, sa.select(outbox)))
    await inviting.invite(at.desk, at.by("admin", "org_b"), address)
    assert len(rows(at, sa.select(outbox))) == before, "of whom others invite nobody is told"
    row = {"org_id": "org_a", "email": "x@y.example", "role": "viewer"}
    row |= {"created_at": now - timedelta(days=2), "expires_at": now + timedelta(days=2)}
    many = [row | {"invitation_id": f"inv_{n}", "digest": str(n)} for n in range(500)]
    with writing(at.people.engine) as connection:
        connection.execute(sa.insert(invitations), many)
    with pytest.raises(Conflict) as full:
        await inviting.invite(at.desk, admin, NewInvitation("a@b.example"))
    assert full.value.stable_code == "too_many_invitations"
    with writing(at.people.engine) as connection:
        connection.execute(sa.update(invitations).values(revoked_at=now, created_at=now))
    with pytest.raises(RateLimited) as sent:
        await inviting.invite(at.desk, admin, NewInvitation("c@d.example"))
    assert sent.value.stable_code == "too_many_letters"


async def test_nobody_keeps_more_keys_or_teams_than_every_replica_can_hold(at):
    member, now = at.by("member"), utc_now()
    row = {"org_id": "org_a", "kind": "p", "owner_id": member.principal.user_id, "created_at": now}
    many = [row | {"key_id": f"key_{n}", "digest": str(n)} for n in range(999)]
    team = {"org_id": "org_a", "created_at": now}
    with writing(at.people.engine) as connection:
        connection.execute(sa.insert(api_keys), many)
        connection.execute(
            sa.insert(tables.teams), [team | {"team_id": f"team_{n}", "name": str(n)} for n in range(1000)]
        )
    done = await asyncio.gather(
        *(keys.issue(at.desk, member, NewKey(kind="m", name="late")) for _ in range(3)),
        return_exceptions=True,
    )
    refused = [answer.stable_code for answer in done if isinstance(answer, Conflict)]
    assert refused == ["too_many_keys"] * 2
    await keys.issue(at.desk, at.by("admin"), NewKey(kind="m", name="another's"))
    with pytest.raises(Conflict) as full:
        await teams.create(at.desk, at.by("admin"), NewTeam("Tide"))
    assert full.value.stable_code == "too_many_teams"


async def test_an_invitation_travels_by_letter_alone_and_replaces_the_one_before(at):
    first = await inviting.invite(at.desk, at.by("admin"), NewInvitation("New@Org_A.example", role="admin"))
    second = await inviting.invite(at.desk, at.by("admin"), NewInvitation("new@org_a.example"))
    assert (first.email, second.role) == ("new@org_a.example", "member")
    listed = await inviting.listed(at.desk, at.by("admin").principal, page(), closed=False)
    assert [invited.invitation_id for invited in listed.items] == [second.invitation_id]
    every = await inviting.listed(at.desk, at.by("admin").principal, page(), closed=True)
    assert len(every.items) == 2
    letters = rows(at, sa.select(outbox.c.recipient, outbox.c.message_id, outbox.c.sealed))
    assert [recipient for recipient, _, _ in letters] == ["new@org_a.example"] * 2
    text = at.desk.safe.open("letters", letters[0][1], letters[0][2])
    secret = text.partition("#token=")[2].split()[0]
    assert secret not in repr(rows(at, sa.select(invitations))) + repr(rows(at, sa.select(audit_log)))
    for _ in range(2):
        await inviting.take_back(at.desk, at.by("owner"), second.invitation_id)
    for invited, error in [
        (NewInvitation(at.who("member").email), Conflict),
        (NewInvitation("x@y.example", role="owner"), Forbidden),
        (NewInvitation("x@y.example", team_id="team_none"), InvalidRequest),
    ]:
        with pytest.raises(error):
            await inviting.invite(at.desk, at.by("admin"), invited)
    # Known to another organisation, and nobody can tell.
    await inviting.invite(at.desk, at.by("admin"), NewInvitation(at.who("member", "org_b").email))


async def test_a_providers_key_goes_in_sealed_and_only_its_name_comes_out(at):
    secret = "sk-ant-very-secret"
    await providers.keep(at.desk, at.by("admin"), "anthropic", secret)
    (shown,) = (await providers.listed(at.desk, at.by("admin").principal, page())).items
    assert shown.name == "anthropic"
    ((sealed,),) = rows(at, sa.select(provider_credentials.c.sealed))
    assert Vault(SECRET).open("org_a", "anthropic", sealed) == secret
    assert secret not in repr(rows(at, sa.select(audit_log))) + repr(sealed)
    assert (await providers.listed(at.desk, at.by("admin", "org_b").principal, page())).items == []
    for name, value in [("../etc", "sk"), ("anthropic", "two words"), ("anthropic", "é"), ("x" * 99, "sk")]:
        with pytest.raises(InvalidRequest):
            await providers.keep(at.desk, at.by("admin"), name, value)
    with pytest.raises(NotFound):
        await providers.forget(at.desk, at.by("admin", "org_b"), "anthropic")
    await providers.forget(at.desk, at.by("admin"), "anthropic")
    with pytest.raises(Forbidden):
        await providers.listed(at.desk, at.by("member").principal, page())


async def test_the_log_can_be_added_to_and_nothing_else(at):
    await teams.create(at.desk, at.by("admin"), NewTeam("Tide"))
    before = rows(at, sa.select(audit_log))
    for change in (sa.update(audit_log).values(action="nothing"), sa.delete(audit_log)):
        with pytest.raises(DBAPIError) as caught, at.people.engine.begin() as connection:
            connection.execute(change)
        assert "only added to" in str(caught.value)
    assert rows(at, sa.select(audit_log)) == before


async def test_the_log_is_read_by_administrators_line_by_line_and_by_what_they_ask_for(at):
    admin = at.by("admin")
    made = [await teams.create(at.desk, admin, NewTeam(f"T{n}")) for n in range(5)]
    await teams.remove(at.desk, at.by("owner"), made[0].team_id)
    await teams.create(at.desk, at.by("admin", "org_b"), NewTeam("Theirs"))
    found, cursor = [], None
    while True:
        answer = await audit_pages.listed(at.desk, admin.principal, page(2, cursor), AuditFilter())
        found += answer.items
        cursor = answer.next_cursor
        if cursor is None:
            break
    assert [line.action for line in found] == ["team.removed", *["team.created"] * 5]
    assert [line.audit_id for line in found] == sorted((line.audit_id for line in found), reverse=True)
    first = found[-1]
    assert (first.actor_id, first.address, first.request_id) == (
        admin.principal.user_id, "192.0.2.7", "request-1",
    )  # fmt: skip
    now = datetime.now(UTC)
    for wanted, count in [
        ({"action": "team.removed"}, 1),
        ({"actor_id": admin.principal.user_id}, 5),
        ({"object_kind": "team", "object_id": made[0].team_id}, 2),
        ({"since": now + timedelta(minutes=1)}, 0),
        ({"since": now - timedelta(minutes=5), "before": now + timedelta(minutes=1)}, 6),
        ({"action": "' OR 1=1 --"}, 0),
    ]:
        answer = await audit_pages.listed(at.desk, admin.principal, page(), AuditFilter(**wanted))
        assert len(answer.items) == count, wanted
    beyond = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))
    for wrong in (AuditFilter(since=datetime(2026, 1, 1)), AuditFilter(before=beyond)):
        with pytest.raises(InvalidRequest):
            await audit_pages.listed(at.desk, admin.principal, page(), wrong)
    with pytest.raises(Forbidden):
        await audit_pages.listed(at.desk, at.by("member").principal, page(), AuditFilter())


async def test_a_cursor_that_is_none_or_of_another_list_is_refused(at):
    for n in range(2):
        await teams.create(at.desk, at.by("admin"), NewTeam(f"T{n}"))
    place = msgspec.json.encode([page().question, ["a\0", "b"]])
    forged = base64.urlsafe_b64encode(place).decode().rstrip("=")
    for cursor in ("", "%%%", "bm9wZQ", "x" * 1900, forged):
        with pytest.raises(InvalidRequest):
            await teams.listed(at.desk, at.by("admin").principal, page(1, cursor))
    good = (await teams.listed(at.desk, at.by("admin").principal, page(1))).next_cursor
    with pytest.raises(InvalidRequest):
        await teams.listed(at.desk, at.by("admin", "org_b").principal, Page.of("org_b", "/x", 1, good))
