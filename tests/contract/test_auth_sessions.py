"""Sessions and their tokens, on SQLite and PostgreSQL, at one replica and at two."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import jwt
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from infra.desks import PASSWORD, VISITOR, audited, replicas
from infra.waiting import until
from tokentide_common.accounts_schema import (
    device_logins,
    login_failures,
    memberships,
    one_time_secrets,
    outbox,
    refresh_tokens,
    sessions,
)
from tokentide_common.database import reading_async, writing_async
from tokentide_common.errors import NotFound, Unauthorized
from tokentide_query_api.accounts import device_login, profile
from tokentide_query_api.accounts.access_tokens import AccessTokens, Claims
from tokentide_query_api.accounts.auth_shapes import Decision, NewDevice, SignUp
from tokentide_query_api.accounts.changes import changing_people
from tokentide_query_api.accounts.sessions import GRACE, IDLE, LONGEST, end_sessions_of, rotate
from tokentide_query_api.accounts.signup import sign_up
from tokentide_query_api.accounts.tidying import tidy

ANN = SignUp(email="ann@example.com", password=PASSWORD)


@pytest.fixture
async def pair(database_url):
    async with replicas(database_url, 2) as desks:
        yield desks


@pytest.fixture
def desk(pair):
    return pair[0]


@pytest.fixture
async def ann(pair):
    return await sign_up(pair[0], ANN, VISITOR)


async def admitted(desk, access_token):
    return await desk.access.admit({"authorization": f"Bearer {access_token}"})


async def refused(desk, access_token) -> str:
    with pytest.raises(Unauthorized) as caught:
        await admitted(desk, access_token)
    return f"{caught.value.stable_code}: {caught.value.detail}"


async def no_refresh(desk, refresh_token) -> str:
    with pytest.raises(Unauthorized) as caught:
        await rotate(desk, refresh_token, VISITOR.actor())
    return f"{caught.value.stable_code}: {caught.value.detail}"


async def test_a_session_goes_on_with_new_tokens(desk, ann):
    opened = await rotate(desk, ann.refresh_token, VISITOR.actor())
    assert opened.refresh_token != ann.refresh_token
    again = await rotate(desk, opened.refresh_token, VISITOR.actor())
    assert again.session_id == opened.session_id
    principal = await admitted(desk, again.access_token)
    assert (principal.user_id, principal.org_id, principal.role) == (
        ann.user.id,
        ann.organisation.id,
        "owner",
    )


async def test_who_signed_up_at_one_replica_is_known_at_the_other_at_once(pair):
    tokens = await sign_up(pair[0], ANN, VISITOR)
    assert (await admitted(pair[1], tokens.access_token)).user_id == tokens.user.id
    codes = await device_login.begin(pair[0], NewDevice(machine_id="m-1"), VISITOR)
    principal = await admitted(pair[0], tokens.access_token)
    await device_login.decide(pair[0], principal, Decision(user_code=codes.user_code, approve=True), VISITOR)
    keys = await device_login.ask(pair[0], codes.device_code, VISITOR)
    await until(lambda: known(pair[1], keys.api_key), within_s=5)


async def known(desk, api_key) -> bool:
    try:
        return bool(await admitted(desk, api_key))
    except Unauthorized:
        return False


async def test_of_two_replicas_that_rotate_one_token_exactly_one_wins_and_the_session_lives(pair, ann):
    for _ in range(5):
        tries = [rotate(desk, ann.refresh_token, VISITOR.actor()) for desk in pair * 2]
        ended = await asyncio.gather(*tries, return_exceptions=True)
        won = [one for one in ended if not isinstance(one, BaseException)]
        assert len(won) == 1
        assert all(isinstance(one, Unauthorized) for one in ended if one not in won)
        await admitted(pair[1], won[0].access_token)
        ann = won[0]


async def test_a_copied_refresh_token_ends_the_session_at_every_replica(pair, ann):
    desk, other = pair
    opened = await rotate(desk, ann.refresh_token, VISITOR.actor())
    desk.clock.pass_by(seconds=GRACE.total_seconds() + 1)
    await admitted(other, opened.access_token)
    replayed = await no_refresh(desk, ann.refresh_token)
    assert await no_refresh(desk, opened.refresh_token) == replayed
    assert await no_refresh(desk, "ttr_of-nobody") == replayed
    await refused(desk, opened.access_token)
    await other.people.refresh()
    await refused(other, opened.access_token)
    assert (await audited(desk, ann.organisation.id))[-1] == "session.token_replayed"


async def test_a_lost_answer_costs_no_session_and_hands_out_nothing(desk, ann):
    opened = await rotate(desk, ann.refresh_token, VISITOR.actor())
    desk.clock.pass_by(seconds=GRACE.total_seconds() - 1)
    await no_refresh(desk, ann.refresh_token)
    await rotate(desk, opened.refresh_token, VISITOR.actor())


async def test_an_idle_session_is_over_and_none_lasts_for_ever(desk, ann):
    token, began = ann.refresh_token, desk.clock()
    while desk.clock() + IDLE < began + LONGEST + timedelta(days=1):
        desk.clock.pass_by(days=IDLE.days - 1)
        token = (await rotate(desk, token, VISITOR.actor())).refresh_token
    desk.clock.now = began + LONGEST
    await no_refresh(desk, token)
    bob = await sign_up(desk, SignUp(email="bob@example.com", password=PASSWORD), VISITOR)
    desk.clock.pass_by(days=IDLE.days)
    await no_refresh(desk, bob.refresh_token)


async def test_logging_out_ends_access_and_refresh_tokens(pair, ann):
    desk, other = pair
    principal = await admitted(desk, ann.access_token)
    await profile.log_out(desk, principal, VISITOR)
    gone = await refused(desk, ann.access_token)
    await other.people.refresh()
    assert await refused(other, ann.access_token) == gone
    await no_refresh(desk, ann.refresh_token)
    assert (await audited(desk, ann.organisation.id))[-1] == "session.ended"


async def test_whatever_is_wrong_with_an_access_token_it_is_refused_alike(desk, ann):
    now, claims = desk.clock(), jwt.decode(ann.access_token, options={"verify_signature": False})
    own = desk.tokens._key
    other_user = Claims("usr_none", claims["sid"], claims["org"])
    other_org = Claims(claims["sub"], claims["sid"], "org_none")
    head, body, _ = ann.access_token.split(".")
    bad = {
        "alg none": jwt.encode(claims, None, algorithm="none"),
        "no signature": f"{head}.{body}.",
        "another key": AccessTokens("x" * 40).issue(Claims(claims["sub"], claims["sid"], claims["org"]), now),
        "another audience": jwt.encode({**claims, "aud": "elsewhere"}, own, algorithm="HS256"),
        "another issuer": jwt.encode({**claims, "iss": "elsewhere"}, own, algorithm="HS256"),
        "another algorithm": jwt.encode(claims, own + b"-" * 32, algorithm="HS512"),
        "no audience": jwt.encode({k: v for k, v in claims.items() if k != "aud"}, own, algorithm="HS256"),
        "no end": jwt.encode({k: v for k, v in claims.items() if k != "exp"}, own, algorithm="HS256"),
        "of nobody": desk.tokens.issue(other_user, now),
        "of no organisation": desk.tokens.issue(other_org, now),
        "no token": "nonsense",
        "too much": "e" * 20_000,
    }
    reasons = {await refused(desk, token) for token in bad.values()}
    reasons.add(await refused(desk, ann.refresh_token))
    desk.clock.pass_by(minutes=15)
    reasons.add(await refused(desk, ann.access_token))
    # A key that is no key and a token that is no token are told apart by their form alone.
    assert {reason.partition(":")[0] for reason in reasons} == {"unauthorized"}
    assert len(reasons) <= 2


async def test_who_is_a_member_no_more_has_no_tokens_any_more(pair, ann):
    desk, other = pair
    async with changing_people(desk) as connection:
        await connection.execute(sa.delete(memberships).where(memberships.c.user_id == ann.user.id))
    await refused(desk, ann.access_token)
    await no_refresh(desk, ann.refresh_token)
    await other.people.refresh()
    await refused(other, ann.access_token)


async def test_sessions_of_one_user_end_together_but_for_one(desk, ann):
    principal = await admitted(desk, ann.access_token)
    async with writing_async(desk.engine) as connection:
        assert await end_sessions_of(connection, ann.user.id, desk.clock(), but=principal.session_id) == 0
        assert await end_sessions_of(connection, ann.user.id, desk.clock(), org_id="org_other") == 0
        assert await end_sessions_of(connection, ann.user.id, desk.clock()) == 1
    await no_refresh(desk, ann.refresh_token)


async def test_switching_goes_on_elsewhere_and_voids_the_old_refresh_token(desk, ann):
    bob = await sign_up(desk, SignUp(email="bob@example.com", password=PASSWORD), VISITOR)
    principal = await admitted(desk, ann.access_token)
    with pytest.raises(NotFound):
        await profile.switch(desk, principal, bob.organisation.id, VISITOR)
    async with changing_people(desk) as connection:
        member = {"org_id": bob.organisation.id, "user_id": ann.user.id, "role": "viewer"}
        await connection.execute(sa.insert(memberships).values(**member, created_at=desk.clock()))
    moved = await profile.switch(desk, principal, bob.organisation.id, VISITOR)
    assert moved.role == "viewer"
    assert (await admitted(desk, moved.access_token)).org_id == bob.organisation.id
    await no_refresh(desk, ann.refresh_token)
    carried = await rotate(desk, moved.refresh_token, VISITOR.actor())
    assert carried.org_id == bob.organisation.id


async def test_of_refresh_tokens_only_digests_are_stored(desk, ann):
    async with reading_async(desk.engine) as connection:
        stored = repr((await connection.execute(sa.select(refresh_tokens))).all())
    assert ann.refresh_token not in stored
    assert ann.refresh_token[4:] not in stored


async def test_what_is_over_is_taken_away_and_what_is_not_stays(desk, ann):
    await device_login.begin(desk, NewDevice(machine_id="m-1"), VISITOR)
    gone = await sign_up(desk, SignUp(email="bob@example.com", password=PASSWORD), VISITOR)
    await profile.log_out(desk, await admitted(desk, gone.access_token), VISITOR)
    desk.clock.pass_by(days=IDLE.days - 1)
    opened = await rotate(desk, ann.refresh_token, VISITOR.actor())
    with capture_logs() as logs:
        await tidy(desk.engine, desk.clock())
    assert [(line["event"], line["letters"]) for line in logs] == [("letters_deleted_unsent", 2)]
    left = {}
    async with reading_async(desk.engine) as connection:
        for table in (sessions, one_time_secrets, device_logins, login_failures, outbox):
            left[table.name] = len((await connection.execute(sa.select(table))).all())
    assert left == {
        "sessions": 1,
        "one_time_secrets": 0,
        "device_logins": 0,
        "login_failures": 0,
        "outbox": 0,
    }
    await rotate(desk, opened.refresh_token, VISITOR.actor())
