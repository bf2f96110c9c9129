"""Signing up and logging in with a password, on SQLite and PostgreSQL, at one replica and at two."""

from __future__ import annotations

import asyncio
import statistics
import time
from datetime import timedelta

import msgspec
import pytest
import sqlalchemy as sa

from infra.desks import CHEAP, PASSWORD, VISITOR, audited, letters_of, replicas
from tokentide_common.accounts_schema import invitations, login_failures, memberships, teams, users
from tokentide_common.database import reading_async, writing_async
from tokentide_common.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    RateLimited,
    TokentideError,
    Unauthorized,
)
from tokentide_query_api.accounts import device_login, recovery
from tokentide_query_api.accounts.auth_shapes import LogIn, NewDevice, NewOrganisation, SignUp
from tokentide_query_api.accounts.lockout import RULES, count_attempt
from tokentide_query_api.accounts.login import log_in
from tokentide_query_api.accounts.one_time import secret_digest
from tokentide_query_api.accounts.passwords import Passwords
from tokentide_query_api.accounts.principal import Principal
from tokentide_query_api.accounts.signup import sign_up

ANN = SignUp(email="Ann@Example.com", password=PASSWORD, display_name="Ann")


@pytest.fixture
async def pair(database_url):
    async with replicas(database_url, 2) as desks:
        yield desks


@pytest.fixture
def desk(pair):
    return pair[0]


@pytest.fixture
async def ann(desk):
    return await sign_up(desk, ANN, VISITOR)


def saying(desk, signup: str):
    return msgspec.structs.replace(desk, settings=msgspec.structs.replace(desk.settings, signup=signup))


def login(email="ann@example.com", password=PASSWORD, **more) -> LogIn:
    return LogIn(email=email, password=password, **more)


async def said(work, error=TokentideError) -> str:
    with pytest.raises(error) as caught:
        await work
    return f"{caught.value.status} {caught.value.stable_code} {caught.value.detail}"


async def invite(desk, org_id, email, *, secret="an-invitation", role="member", team_id=None, **more):
    row = {
        "invitation_id": f"inv_{secret_digest(secret)[:16]}",
        "org_id": org_id,
        "email": email,
        "role": role,
        "team_id": team_id,
        "digest": secret_digest(secret),
        "created_at": desk.clock(),
        "expires_at": desk.clock() + timedelta(days=7),
        **more,
    }
    async with writing_async(desk.engine) as connection:
        await connection.execute(sa.insert(invitations).values(row))
    return secret


async def test_who_signs_up_owns_an_organisation_and_can_log_in(pair, ann):
    assert (ann.role, ann.organisation.name, ann.user.email) == ("owner", "Ann", "ann@example.com")
    assert not ann.user.email_verified
    again = await log_in(pair[1], login("ANN@example.com"), VISITOR)
    assert again.user == ann.user
    assert again.organisation == ann.organisation
    assert await audited(pair[0], ann.organisation.id) == [
        "organisation.created",
        "user.signed_up",
        "session.opened",
        "session.opened",
    ]


async def test_of_two_first_sign_ups_at_once_one_is_the_first(pair):
    desks = [saying(desk, "invited") for desk in pair]
    wishes = [SignUp(email=f"{name}@example.com", password=PASSWORD) for name in "abcd"]
    work = [sign_up(desk, wish, VISITOR) for wish, desk in zip(wishes, desks * 2, strict=True)]
    ended = await asyncio.gather(*work, return_exceptions=True)
    assert [type(one).__name__ for one in ended].count("Tokens") == 1
    assert sum(isinstance(one, Forbidden) for one in ended) == 3


async def test_where_it_is_closed_not_even_the_first_one_signs_up(desk):
    await said(sign_up(saying(desk, "closed"), ANN, VISITOR), Forbidden)
    closed = msgspec.structs.replace(ANN, invitation="any")
    await said(sign_up(saying(desk, "closed"), closed, VISITOR), Forbidden)


async def test_where_people_must_be_invited_nobody_learns_who_has_an_account(desk, ann):
    only = saying(desk, "invited")
    known, unknown = ANN, msgspec.structs.replace(ANN, email="nobody@example.com")
    assert await said(sign_up(only, known, VISITOR)) == await said(sign_up(only, unknown, VISITOR))
    with_token = [msgspec.structs.replace(one, invitation="made-up") for one in (known, unknown)]
    answers = {await said(sign_up(only, one, VISITOR), InvalidRequest) for one in with_token}
    assert len(answers) == 1


async def test_an_address_that_is_taken_makes_no_second_user(pair, ann):
    await said(sign_up(pair[1], msgspec.structs.replace(ANN, email="ANN@EXAMPLE.COM"), VISITOR), Conflict)


@pytest.mark.parametrize("other", ["invited too", "uninvited"])
async def test_of_two_sign_ups_with_one_new_address_at_once_one_is_told_it_is_taken(pair, ann, other):
    bob = await sign_up(pair[0], SignUp(email="bob@example.com", password=PASSWORD), VISITOR)
    for number in range(5):
        email = f"new{number}@example.com"
        wish = SignUp(email=email, password=PASSWORD)
        first = await invite(pair[0], ann.organisation.id, email, secret=f"first-{number}")
        second = await invite(pair[0], bob.organisation.id, email, secret=f"second-{number}")
        secrets = [first, second if other == "invited too" else None]
        work = [
            sign_up(desk, msgspec.structs.replace(wish, invitation=secret), VISITOR)
            for desk, secret in zip(pair, secrets, strict=True)
        ]
        ended = await asyncio.gather(*work, return_exceptions=True)
        # Who came second and found the account already there may have gone in with the same password.
        assert {getattr(one, "stable_code", "tokens") for one in ended} <= {"tokens", "email_taken"}, ended


async def test_who_may_not_sign_up_or_has_no_link_costs_no_hash(desk, ann):
    spent = msgspec.structs.replace(desk, passwords=None)
    await said(sign_up(saying(spent, "invited"), ANN, VISITOR), Forbidden)
    await said(recovery.reset_password(spent, "made-up", PASSWORD, VISITOR), InvalidRequest)


async def test_a_sign_up_with_an_unknown_time_zone_makes_nothing(desk):
    wanted = msgspec.structs.replace(ANN, organisation=NewOrganisation("Acme", "Mars/Olympus"))
    await said(sign_up(desk, wanted, VISITOR), InvalidRequest)
    async with reading_async(desk.engine) as connection:
        assert (await connection.execute(sa.select(users))).first() is None


async def test_an_invitation_makes_a_member_with_its_role_and_team_once(pair, ann):
    desk, org_id = pair[0], ann.organisation.id
    only = [saying(one, "invited") for one in pair]
    async with writing_async(desk.engine) as connection:
        row = {"team_id": "team_1", "org_id": org_id, "name": "Core", "created_at": desk.clock()}
        await connection.execute(sa.insert(teams).values(row))
    secret = await invite(desk, org_id, "bob@example.com", role="admin", team_id="team_1")
    wish = SignUp(email="Bob@example.com", password=PASSWORD, invitation=secret)
    eve = SignUp(email="eve@example.com", password=PASSWORD, invitation=secret)
    await said(sign_up(only[0], eve, VISITOR), InvalidRequest)
    ended = await asyncio.gather(*(sign_up(one, wish, VISITOR) for one in only), return_exceptions=True)
    (bob,) = [one for one in ended if not isinstance(one, BaseException)]
    assert (bob.role, bob.organisation.id, bob.user.email_verified) == ("admin", org_id, True)
    await said(sign_up(only[0], wish, VISITOR), InvalidRequest)
    assert "invitation.accepted" in await audited(desk, org_id)


@pytest.mark.parametrize("state", ["accepted_at", "revoked_at", "expires_at"])
async def test_an_invitation_that_is_over_lets_nobody_in(desk, ann, state):
    past = {state: desk.clock() - timedelta(seconds=1)}
    secret = await invite(desk, ann.organisation.id, "bob@example.com", **past)
    wish = SignUp(email="bob@example.com", password=PASSWORD, invitation=secret)
    await said(sign_up(desk, wish, VISITOR), InvalidRequest)


async def test_who_has_an_account_accepts_an_invitation_with_their_own_password(desk, ann):
    bob = await sign_up(desk, SignUp(email="bob@example.com", password=PASSWORD), VISITOR)
    desk.clock.pass_by(seconds=1)
    secret = await invite(desk, bob.organisation.id, "ann@example.com", role="viewer")
    wrong = msgspec.structs.replace(ANN, password="not my password", invitation=secret)
    await said(sign_up(desk, wrong, VISITOR), Unauthorized)
    joined = await sign_up(desk, msgspec.structs.replace(ANN, invitation=secret), VISITOR)
    assert (joined.user.id, joined.organisation.id) == (ann.user.id, bob.organisation.id)
    assert (joined.role, joined.user.email_verified) == ("viewer", True)
    # Later logins begin where she began, or where she says.
    assert (await log_in(desk, login(), VISITOR)).organisation == ann.organisation
    there = login(organisation=bob.organisation.id)
    assert (await log_in(desk, there, VISITOR)).organisation == bob.organisation
    await said(log_in(desk, login(organisation="org_none"), VISITOR), NotFound)


async def test_the_holder_of_an_organisations_own_key_becomes_its_first_owner_and_nobody_after(desk):
    begun = await sign_up(desk, SignUp(email="first@example.com", password=PASSWORD), VISITOR)
    org_id = begun.organisation.id
    by = Principal(org_id=org_id, role="admin", kind="key", actor_id="key_1")
    only = saying(desk, "invited")
    await said(sign_up(only, ANN, VISITOR, by), Forbidden)
    async with writing_async(desk.engine) as connection:
        await connection.execute(sa.delete(memberships))
    for lesser in ({"role": "member"}, {"user_id": "usr_1"}, {"kind": "user"}, {"scopes": frozenset()}):
        await said(sign_up(only, ANN, VISITOR, msgspec.structs.replace(by, **lesser)), Forbidden)
    owner = await sign_up(only, ANN, VISITOR, by)
    assert (owner.organisation.id, owner.role) == (org_id, "owner")


async def test_wrong_unknown_and_without_a_password_are_one_answer_after_the_same_work(desk, ann):
    await sign_up(desk, SignUp(email="sso@example.com", password=PASSWORD), VISITOR)
    async with writing_async(desk.engine) as connection:
        by_provider = sa.update(users).where(users.c.email == "sso@example.com")
        await connection.execute(by_provider.values(password_hash=None))
    statements: list[str] = []
    sa.event.listen(
        desk.engine.sync_engine, "before_cursor_execute", lambda *args: statements.append(args[2])
    )
    answers, work = set(), []
    for wrong in (
        login(password="not my password"),
        login("nobody@example.com"),
        login("sso@example.com"),
    ):
        statements.clear()
        answers.add(await said(log_in(desk, wrong, VISITOR), Unauthorized))
        work.append([*statements])
        await desk.afterwards.finished()
    assert len(answers) == 1
    assert work[0] == work[1] == work[2]
    assert (await audited(desk, ann.organisation.id))[-1] == "login.failed"


async def test_unknown_and_wrong_take_the_same_time(database_url):
    async with replicas(database_url) as (cheap,):
        desk = msgspec.structs.replace(cheap, passwords=Passwords(time_cost=2, memory_kib=32 * 1024))
        await sign_up(desk, ANN, VISITOR)
        times: dict[str, list[float]] = {"ann@example.com": [], "nobody@example.com": []}
        for _ in range(7):
            for email, taken in times.items():
                began = time.perf_counter()
                await said(log_in(desk, login(email, "not my password"), VISITOR), Unauthorized)
                taken.append(time.perf_counter() - began)
            desk.clock.pass_by(hours=2)
        known, unknown = (statistics.median(taken[1:]) for taken in times.values())
        # Hashing takes ten times as long as everything else.
        assert 0.5 < known / unknown < 2


@pytest.mark.parametrize("email", ["ann@example.com", "nobody@example.com"])
async def test_whoever_guesses_waits_longer_each_time(desk, ann, email):
    waits = []
    for attempt in range(RULES["email"].free + 4):
        if attempt >= RULES["email"].free:
            with pytest.raises(RateLimited) as caught:
                await log_in(desk, login(email), VISITOR)  # not even with the right one
            assert caught.value.stable_code == "locked_out"
            waits.append(caught.value.retry_after_s)
            desk.clock.pass_by(seconds=caught.value.retry_after_s)
        await said(log_in(desk, login(email, "not my password"), VISITOR), Unauthorized)
    assert waits == [2, 4, 8, 16]


async def test_who_is_right_starts_anew(desk, ann):
    for _ in range(3):
        for _ in range(RULES["email"].free - 1):
            await said(log_in(desk, login(password="not my password"), VISITOR), Unauthorized)
        await log_in(desk, login(), VISITOR)


async def test_guesses_at_many_replicas_at_once_are_no_more_than_one_by_one(pair, ann):
    work = [log_in(desk, login(password="not my password"), VISITOR) for desk in pair * 8]
    ended = await asyncio.gather(*work, return_exceptions=True)
    assert sum(isinstance(one, Unauthorized) for one in ended) == RULES["email"].free
    assert sum(isinstance(one, RateLimited) for one in ended) == 16 - RULES["email"].free


async def test_who_guesses_at_a_shared_address_keeps_nobody_else_there_out(desk, ann):
    for number in range(RULES["sign-ups from"].free + 2):
        email = f"user{number}@example.com"
        await said(log_in(desk, login(email), VISITOR), Unauthorized)
    await log_in(desk, login(), VISITOR)


async def test_a_flood_of_sign_ups_from_an_address_keeps_nobody_there_from_anything_else(desk, ann):
    for _ in range(RULES["sign-ups from"].free - 1):  # Ann's was one
        await count_attempt(desk, ("sign-ups from", VISITOR.address))
    await said(sign_up(desk, SignUp(email="bob@example.com", password=PASSWORD), VISITOR), RateLimited)
    await log_in(desk, login(), VISITOR)
    await recovery.forgot_password(desk, "ann@example.com", VISITOR)
    await device_login.begin(desk, NewDevice(machine_id="m-1"), VISITOR)


async def test_attempts_are_counted_under_digests_alone(desk, ann):
    await said(log_in(desk, login("secret@example.com"), VISITOR), Unauthorized)
    async with reading_async(desk.engine) as connection:
        stored = repr((await connection.execute(sa.select(login_failures))).all())
    assert "secret" not in stored
    assert VISITOR.address not in stored


async def test_a_hash_of_another_cost_is_made_anew_at_the_next_login(desk, ann):
    async def stored() -> str:
        async with reading_async(desk.engine) as connection:
            return str((await connection.execute(sa.select(users.c.password_hash))).scalar_one())

    assert (await stored()).startswith("$argon2id$v=19$m=8,t=1,p=1$")
    dearer = msgspec.structs.replace(desk, passwords=Passwords(**{**CHEAP, "time_cost": 2}))
    await log_in(dearer, login(), VISITOR)
    assert "t=2" in await stored()
    await log_in(dearer, login(), VISITOR)


async def test_who_belongs_nowhere_any_more_does_not_come_in(desk, ann):
    async with writing_async(desk.engine) as connection:
        await connection.execute(sa.delete(memberships))
    assert "no_organisation" in await said(log_in(desk, login(), VISITOR), Forbidden)
    assert "wrong_credentials" in await said(log_in(desk, login(password="wrong"), VISITOR), Unauthorized)


async def test_a_sign_up_is_asked_to_confirm_its_address(desk, ann):
    (letter,) = await letters_of(desk, "ann@example.com")
    assert "/verify-email#token=" in letter
