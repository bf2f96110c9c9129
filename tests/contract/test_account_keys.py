"""Keys of an organisation, on SQLite and PostgreSQL: who makes which, and who wins when two change one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from infra.account_desks import office, replica
from tokentide_common.accounts_schema import api_keys, audit_log, machines, memberships
from tokentide_common.database import reading, utc_now, writing
from tokentide_common.errors import Conflict, Forbidden, InvalidRequest, NotFound, Unauthorized
from tokentide_query_api.accounts import invitations, keys, members
from tokentide_query_api.accounts.audit import Actor
from tokentide_query_api.accounts.changes import Maker
from tokentide_query_api.accounts.invitations import NewInvitation
from tokentide_query_api.accounts.key_shapes import KeyChange, NewKey
from tokentide_query_api.accounts.pages import Page
from tokentide_query_api.accounts.principal import Principal


@pytest.fixture
async def at(database_url):
    async with office(database_url) as opened:
        yield opened


def new(kind: str = "m", **facts) -> NewKey:
    return NewKey(kind=kind, name="laptop", **facts)


async def shown(at, role: str, limit: int = 50, **options) -> list[str]:
    by, found, cursor = at.by(role), [], None
    while True:
        page = Page.of(by.org_id, "/keys", limit, cursor)
        answer = await keys.listed(at.desk, by.principal, page, None, **{"revoked": False, **options})
        found += [key.key_id for key in answer.items]
        cursor = answer.next_cursor
        if cursor is None:
            return found


def stored(at, table: sa.Table) -> list[dict[str, object]]:
    with reading(at.people.engine) as connection:
        return [dict(row._mapping) for row in connection.execute(sa.select(table))]


async def test_a_key_works_as_soon_as_it_was_issued_and_only_its_digest_is_stored(at):
    issued = await keys.issue(at.desk, at.by("member"), new())
    member = at.who("member")
    record = at.desk.keys.resolve(issued.key, "m")
    assert (record.org_id, record.owner_id, record.user_email) == ("org_a", member.user_id, member.email)
    assert record.user_id == member.user_id
    for table in (api_keys, audit_log):
        assert issued.key[5:30] not in repr(stored(at, table))


async def test_a_revoked_key_is_refused_at_once_and_revoking_it_again_changes_nothing(at):
    issued = await keys.issue(at.desk, at.by("member"), new())
    await keys.revoke(at.desk, at.by("member"), issued.key_id)
    with pytest.raises(Unauthorized):
        at.desk.keys.resolve(issued.key, "m")
    before = stored(at, api_keys), stored(at, audit_log)
    await keys.revoke(at.desk, at.by("admin"), issued.key_id)
    assert (stored(at, api_keys), stored(at, audit_log)) == before


REFUSED = [
    ("viewer", new(), Forbidden),
    ("member", new("a", role="admin"), Forbidden),
    ("admin", new("a", role="owner"), Forbidden),
    ("member", new(owner_id=None), Forbidden),
    ("member", new(user_email="boss@org_a.example"), Forbidden),
    ("member", new(machine_id="of-somebody"), Forbidden),
    ("admin", new(owner_id="usr_nobody"), InvalidRequest),
    ("admin", new(role="member"), InvalidRequest),
    ("admin", new("p", scopes=["read"]), InvalidRequest),
    ("admin", new(expires_at=datetime(2020, 1, 1, tzinfo=UTC)), InvalidRequest),
    ("admin", new(expires_at=datetime(9999, 12, 31, 23, tzinfo=UTC)), InvalidRequest),
]


async def test_nobody_makes_a_key_that_can_do_or_say_more_than_they_may(at):
    with writing(at.people.engine) as connection:
        theirs = {"org_id": "org_a", "machine_id": "of-somebody", "user_id": at.who("owner").user_id}
        seen = {"first_seen_at": utc_now(), "last_seen_at": utc_now()}
        connection.execute(sa.insert(machines).values(theirs | seen))
    for maker, wanted, error in REFUSED:
        with pytest.raises(error):
            await keys.issue(at.desk, at.by(maker), wanted)
    assert stored(at, api_keys) == []
    assert stored(at, audit_log) == []


async def test_a_key_is_not_made_for_an_owner_by_an_admin_nor_for_a_member_of_another_organisation(at):
    with pytest.raises(Forbidden):
        await keys.issue(at.desk, at.by("admin"), new(owner_id=at.who("owner").user_id))
    with pytest.raises(InvalidRequest):
        await keys.issue(at.desk, at.by("owner"), new(owner_id=at.who("member", "org_b").user_id))
    made = await keys.issue(at.desk, at.by("admin"), new(owner_id=at.who("member").user_id))
    assert made.user_email == at.who("member").email


async def test_an_address_that_only_another_organisation_knows_is_an_address_like_any(at):
    theirs = at.who("member", "org_b")
    made = await keys.issue(at.desk, at.by("admin"), new(user_email=theirs.email.upper()))
    assert (made.user_email, made.user_id) == (theirs.email, "")


async def test_a_member_sees_their_own_keys_and_an_admin_all_of_the_organisation_page_by_page(at):
    own = [(await keys.issue(at.desk, at.by("member"), new())).key_id for _ in range(3)]
    others = [(await keys.issue(at.desk, at.by("owner"), new("a"))).key_id for _ in range(2)]
    theirs = await keys.issue(at.desk, at.by("admin", "org_b"), new())
    assert await shown(at, "member", limit=2) == own[::-1]
    assert await shown(at, "admin", limit=2) == [*others[::-1], *own[::-1]]
    for hidden in (others[0], theirs.key_id, "key_none", "\0", "'; DROP TABLE api_keys; --"):
        with pytest.raises(NotFound) as caught:
            await keys.one(at.desk, at.by("member").principal, hidden)
        assert caught.value.detail == "there is no such thing in your organisation"


async def test_a_key_of_the_organisation_with_a_members_role_owns_nothing(at):
    await keys.issue(at.desk, at.by("owner"), new(owner_id=None))
    principal = at.by("member").principal
    nobody = type(principal)(org_id="org_a", role="member", kind="key", actor_id="key_x")
    page = Page.of("org_a", "/keys", 50, None)
    assert (await keys.listed(at.desk, nobody, page, None, revoked=True)).items == []


async def test_what_a_change_does_not_name_stays(at):
    issued = await keys.issue(at.desk, at.by("admin"), new("a", role="admin", project="tide"))
    later = datetime.now(UTC) + timedelta(days=1)
    changed = await keys.change(
        at.desk, at.by("admin"), issued.key_id, KeyChange(name="ci", role="viewer", expires_at=later), 1
    )
    assert (changed.name, changed.role, changed.project, changed.version) == ("ci", "viewer", "tide", 2)
    assert at.desk.keys.resolve(issued.key, "a").role == "viewer"
    same = await keys.change(at.desk, at.by("admin"), issued.key_id, KeyChange(name="ci"), None)
    assert same.version == 2
    never = await keys.change(at.desk, at.by("admin"), issued.key_id, KeyChange(expires_at=None), 2)
    assert never.expires_at is None
    lines = [line for line in stored(at, audit_log) if line["action"] == "key.changed"]
    assert sorted(line["detail"] for line in lines) == [
        '{"changed":["expires_at","name","role"]}',
        '{"changed":["expires_at"]}',
    ]


async def test_an_admin_revokes_but_does_not_change_what_is_an_owners(at):
    owners = await keys.issue(at.desk, at.by("owner"), new())
    mighty = await keys.issue(at.desk, at.by("owner"), new("a", role="owner", owner_id=None))
    for key in (owners, mighty):
        with pytest.raises(Forbidden):
            await keys.change(at.desk, at.by("admin"), key.key_id, KeyChange(name="mine"), 1)
        await keys.revoke(at.desk, at.by("admin"), key.key_id)
    with pytest.raises(Conflict):
        await keys.change(at.desk, at.by("owner"), owners.key_id, KeyChange(name="again"), None)


async def test_what_memory_still_believes_makes_no_key(at):
    """Another replica has removed, demoted or revoked a moment ago, and this one has not heard of it."""
    demoted, removed = at.by("admin"), at.by("member")
    made = await keys.issue(at.desk, at.by("owner"), new("a", role="admin", owner_id=None))
    holder = Principal(org_id="org_a", role="admin", kind="key", actor_id=made.key_id)
    revoked = Maker(holder, Actor("key", made.key_id))
    with writing(at.people.engine) as connection:
        mine = memberships.c.user_id == demoted.principal.user_id
        connection.execute(sa.update(memberships).where(mine).values(role="member"))
        mine = memberships.c.user_id == removed.principal.user_id
        connection.execute(sa.delete(memberships).where(mine))
        connection.execute(sa.update(api_keys).values(revoked_at=utc_now()))
    before = len(stored(at, api_keys))
    for maker in (demoted, removed, revoked):
        with pytest.raises(Unauthorized):
            await keys.issue(at.desk, maker, new())
    with pytest.raises(Unauthorized):
        await members.change_role(at.desk, demoted, at.who("viewer").user_id, "admin", None)
    with pytest.raises(Unauthorized):
        await invitations.invite(at.desk, revoked, NewInvitation("x@y.example", role="admin"))
    assert len(stored(at, api_keys)) == before


async def test_a_key_made_with_a_key_ends_no_later_than_that(at):
    end = datetime.now(UTC) + timedelta(hours=1)
    made = await keys.issue(at.desk, at.by("owner"), new("a", role="admin", owner_id=None, expires_at=end))
    holder = Principal(org_id="org_a", role="admin", kind="key", actor_id=made.key_id)
    maker = Maker(holder, Actor("key", made.key_id))
    for wanted in (None, end + timedelta(days=1)):
        child = await keys.issue(at.desk, maker, new("p", expires_at=wanted))
        assert child.expires_at == end
    longer = await keys.change(at.desk, maker, child.key_id, KeyChange(expires_at=None), None)
    assert longer.expires_at == end


async def test_of_many_who_change_the_same_version_at_once_exactly_one_wins(at, database_url):
    issued = await keys.issue(at.desk, at.by("admin"), new())
    async with replica(database_url) as other:
        tries = [
            keys.change(desk, at.by("admin"), issued.key_id, KeyChange(name=f"{n}"), 1)
            for n, desk in enumerate([at.desk, other] * 4)
        ]
        done = await asyncio.gather(*tries, return_exceptions=True)
    (winner,) = [answer for answer in done if not isinstance(answer, BaseException)]
    lost = [answer for answer in done if isinstance(answer, BaseException)]
    assert {(type(error), error.status) for error in lost} == {(Conflict, 412)}
    now = await keys.one(at.desk, at.by("admin").principal, issued.key_id)
    assert (now.name, now.version) == (winner.name, 2)


async def test_two_replicas_that_issue_and_revoke_at_once_end_up_knowing_what_is_stored(at, database_url):
    async with replica(database_url) as other:

        async def busy(desk, who: str) -> None:
            mine = [await keys.issue(desk, at.by(who), new()) for _ in range(4)]
            await asyncio.gather(
                keys.issue(desk, at.by(who), new("a")),
                *(keys.revoke(desk, at.by("admin"), key.key_id) for key in mine[:2]),
            )

        await asyncio.gather(*(busy(desk, who) for desk in (at.desk, other) for who in ("member", "admin")))
        live = {row["digest"] for row in stored(at, api_keys) if row["revoked_at"] is None}
        assert len(live) == 4 * 3
        for desk in (at.desk, other):
            await desk.keys.refresh()
            assert set(desk.keys._keys) == live
