"""Logging in a machine by a code, on SQLite and PostgreSQL, at one replica and at two."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime, timedelta

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from infra.desks import PASSWORD, VISITOR, audited, replicas
from tokentide_common.accounts_schema import api_keys, device_logins, machines, memberships
from tokentide_common.database import reading_async, writing_async
from tokentide_common.errors import Forbidden, InvalidRequest, NotFound, RateLimited, Unauthorized
from tokentide_query_api.accounts import device_login, keys
from tokentide_query_api.accounts.auth_shapes import Decision, NewDevice, SignUp
from tokentide_query_api.accounts.changes import Maker, changing_people
from tokentide_query_api.accounts.device_keys import API_KEY_LIFETIME
from tokentide_query_api.accounts.device_login import INTERVAL_S, LETTERS, LIFETIME, normal_code
from tokentide_query_api.accounts.key_shapes import NewKey
from tokentide_query_api.accounts.lockout import RULES
from tokentide_query_api.accounts.signup import sign_up

LAPTOP = NewDevice(machine_id="m-1", machine_name="Ann's laptop")


@pytest.fixture
async def pair(database_url):
    async with replicas(database_url, 2) as desks:
        yield desks


@pytest.fixture
def desk(pair):
    return pair[0]


@pytest.fixture
async def ann(desk):
    return await signed_up(desk, "ann@example.com")


async def signed_up(desk, email):
    tokens = await sign_up(desk, SignUp(email=email, password=PASSWORD), VISITOR)
    return await desk.access.admit({"authorization": f"Bearer {tokens.access_token}"})


async def answer(desk, codes) -> str:
    with pytest.raises(InvalidRequest) as caught:
        await device_login.ask(desk, codes.device_code, VISITOR)
    return caught.value.stable_code


def decision(codes, *, approve=True) -> Decision:
    return Decision(user_code=codes.user_code.lower().replace("-", " "), approve=approve)


async def test_an_approved_machine_gets_its_keys_once(pair, ann):
    desk, other = pair
    codes = await device_login.begin(desk, LAPTOP, VISITOR)
    assert re.fullmatch(rf"[{LETTERS}]{{4}}-[{LETTERS}]{{4}}", codes.user_code)
    assert await answer(other, codes) == "authorization_pending"
    decided = await device_login.decide(other, ann, decision(codes), VISITOR)
    assert (decided.machine_id, decided.approved) == ("m-1", True)
    keys = await device_login.ask(desk, codes.device_code, VISITOR)
    machine = desk.keys.resolve(keys.machine_key, "m")
    assert (machine.org_id, machine.owner_id, machine.user_id) == (ann.org_id, ann.user_id, ann.user_id)
    assert (machine.user_email, machine.machine_id) == ("ann@example.com", "m-1")
    reads = await desk.access.admit({"authorization": f"Bearer {keys.api_key}"})
    assert (reads.kind, reads.role, reads.user_id) == ("key", "member", ann.user_id)
    assert await answer(desk, codes) == await answer(other, codes) == "expired_device_code"
    assert (await audited(desk, ann.org_id))[-3:] == ["device.approved", "key.issued", "key.issued"]
    async with reading_async(desk.engine) as connection:
        known = (await connection.execute(sa.select(machines))).one()
    assert (known.machine_id, known.name, known.user_id) == ("m-1", "Ann's laptop", ann.user_id)


async def test_of_two_who_ask_with_one_approved_code_one_gets_keys(pair, ann):
    codes = await device_login.begin(pair[0], LAPTOP, VISITOR)
    await device_login.decide(pair[0], ann, decision(codes), VISITOR)
    work = [device_login.ask(desk, codes.device_code, VISITOR) for desk in pair * 3]
    ended = await asyncio.gather(*work, return_exceptions=True)
    assert sum(not isinstance(one, BaseException) for one in ended) == 1


async def test_a_denied_machine_gets_nothing(desk, ann):
    codes = await device_login.begin(desk, LAPTOP, VISITOR)
    await device_login.decide(desk, ann, decision(codes, approve=False), VISITOR)
    with pytest.raises(NotFound):  # what was decided stays decided
        await device_login.decide(desk, ann, decision(codes), VISITOR)
    assert await answer(desk, codes) == "access_denied"
    assert await answer(desk, codes) == "expired_device_code"
    assert (await audited(desk, ann.org_id))[-1] == "device.denied"


async def test_who_asks_too_fast_is_told_to_slow_down(desk, ann):
    codes = await device_login.begin(desk, LAPTOP, VISITOR)
    assert await answer(desk, codes) == "authorization_pending"
    desk.clock.pass_by(seconds=1)
    assert await answer(desk, codes) == "slow_down"
    desk.clock.pass_by(seconds=INTERVAL_S)
    assert await answer(desk, codes) == "authorization_pending"


async def test_codes_are_good_for_ten_minutes(desk, ann):
    codes = await device_login.begin(desk, LAPTOP, VISITOR)
    late = await device_login.begin(desk, LAPTOP, VISITOR)
    await device_login.decide(desk, ann, decision(late), VISITOR)
    desk.clock.pass_by(seconds=LIFETIME.total_seconds())
    with pytest.raises(NotFound):
        await device_login.decide(desk, ann, decision(codes), VISITOR)
    assert await answer(desk, codes) == await answer(desk, late) == "expired_device_code"
    unknown = msgspec.structs.replace(codes, device_code="made-up")
    assert await answer(desk, unknown) == "expired_device_code"


@pytest.mark.parametrize(
    "lesser", [{"role": "viewer"}, {"kind": "key", "user_id": ""}, {"scopes": frozenset({"manage"})}]
)
async def test_who_may_not_let_machines_in_does_not(desk, ann, lesser):
    codes = await device_login.begin(desk, LAPTOP, VISITOR)
    with pytest.raises(Forbidden):
        await device_login.decide(desk, msgspec.structs.replace(ann, **lesser), decision(codes), VISITOR)
    assert await answer(desk, codes) == "authorization_pending"


@pytest.mark.parametrize("change", ["removed", "viewer"])
async def test_what_somebody_approved_who_is_no_member_any_more_counts_for_nothing(desk, ann, change):
    codes = await device_login.begin(desk, LAPTOP, VISITOR)
    await device_login.decide(desk, ann, decision(codes), VISITOR)
    async with changing_people(desk) as connection:
        gone = sa.delete(memberships) if change == "removed" else sa.update(memberships).values(role="viewer")
        await connection.execute(gone)
    assert await answer(desk, codes) == "access_denied"


async def test_keys_of_a_machine_end_with_the_membership_of_their_owner(desk, ann):
    codes = await device_login.begin(desk, LAPTOP, VISITOR)
    await device_login.decide(desk, ann, decision(codes), VISITOR)
    keys = await device_login.ask(desk, codes.device_code, VISITOR)
    async with changing_people(desk) as connection:
        await connection.execute(sa.delete(memberships))
    with pytest.raises(Unauthorized):
        await desk.access.admit({"authorization": f"Bearer {keys.api_key}"})


async def test_a_member_cannot_take_a_colleagues_machine(desk, ann):
    row = {"org_id": ann.org_id, "machine_id": "m-1", "user_id": ann.user_id}
    async with writing_async(desk.engine) as connection:
        times = {"first_seen_at": desk.clock(), "last_seen_at": desk.clock()}
        await connection.execute(sa.insert(machines).values(**row, **times))
    bob = await signed_up(desk, "bob@example.com")
    member = {"org_id": ann.org_id, "user_id": bob.user_id, "role": "member", "created_at": desk.clock()}
    async with changing_people(desk) as connection:
        await connection.execute(sa.insert(memberships).values(member))
    colleague = msgspec.structs.replace(bob, org_id=ann.org_id, role="member")
    codes = await device_login.begin(desk, LAPTOP, VISITOR)
    with pytest.raises(Forbidden):
        await device_login.decide(desk, colleague, decision(codes), VISITOR)


async def test_codes_cannot_be_tried_out(desk, ann):
    wrong = Decision(user_code="BBBB-BBBB", approve=True)
    for _ in range(RULES["device"].free):
        with pytest.raises(NotFound):
            await device_login.decide(desk, ann, wrong, VISITOR)
    with pytest.raises(RateLimited):
        await device_login.decide(desk, ann, wrong, VISITOR)


async def test_codes_of_ones_own_do_not_make_up_for_wrong_ones(desk, ann):
    wrong = Decision(user_code="BBBB-BBBB", approve=True)
    for _ in range(RULES["device"].free - 1):
        with pytest.raises(NotFound):
            await device_login.decide(desk, ann, wrong, VISITOR)
        await own_denied(desk, ann)
    with pytest.raises(NotFound):
        await device_login.decide(desk, ann, wrong, VISITOR)
    with pytest.raises(RateLimited):
        await own_denied(desk, ann)


async def own_denied(desk, ann):
    codes = await device_login.begin(desk, LAPTOP, VISITOR)
    await device_login.look_up(desk, ann, codes.user_code)
    await device_login.decide(desk, ann, decision(codes, approve=False), VISITOR)


async def test_what_is_looked_up_is_what_is_decided_and_looking_decides_nothing(desk, ann):
    codes = await device_login.begin(desk, LAPTOP, VISITOR)
    shown = await device_login.look_up(desk, ann, codes.user_code)
    assert (shown.machine_name, shown.address) == (LAPTOP.machine_name, VISITOR.address)
    assert await answer(desk, codes) == "authorization_pending"
    with pytest.raises(NotFound):
        await device_login.look_up(desk, ann, "BBBB-BBBB")
    with pytest.raises(Forbidden):
        await device_login.look_up(desk, msgspec.structs.replace(ann, role="viewer"), codes.user_code)


async def expiries(desk) -> dict[str, datetime | None]:
    async with reading_async(desk.engine) as connection:
        rows = await connection.execute(sa.select(api_keys.c.kind, api_keys.c.name, api_keys.c.expires_at))
        return {row.kind: row.expires_at for row in rows if row.name == LAPTOP.machine_name}


async def test_a_machines_api_key_ends_after_a_year(desk, ann):
    codes = await device_login.begin(desk, LAPTOP, VISITOR)
    await device_login.decide(desk, ann, decision(codes), VISITOR)
    await device_login.ask(desk, codes.device_code, VISITOR)
    assert await expiries(desk) == {"m": None, "a": desk.clock() + API_KEY_LIFETIME}


async def test_keys_of_a_machine_do_not_outlive_the_key_that_let_it_in(desk, ann):
    until = desk.clock() + timedelta(days=2)
    maker = Maker(ann, VISITOR.actor_of(ann))
    short = await keys.issue(desk, maker, NewKey(kind="a", name="short", expires_at=until))
    by_key = await desk.access.admit({"authorization": f"Bearer {short.key}"})
    codes = await device_login.begin(desk, LAPTOP, VISITOR)
    await device_login.decide(desk, by_key, decision(codes), VISITOR)
    await device_login.ask(desk, codes.device_code, VISITOR)
    assert await expiries(desk) == {"m": until, "a": until}


async def test_a_key_that_was_revoked_a_moment_ago_lets_no_machine_in(desk, ann):
    maker = Maker(ann, VISITOR.actor_of(ann))
    made = await keys.issue(desk, maker, NewKey(kind="a", name="short"))
    by_key = await desk.access.admit({"authorization": f"Bearer {made.key}"})
    await keys.revoke(desk, maker, by_key.actor_id)
    codes = await device_login.begin(desk, LAPTOP, VISITOR)
    with pytest.raises(Unauthorized):
        await device_login.decide(desk, by_key, decision(codes), VISITOR)
    assert await answer(desk, codes) == "authorization_pending"


async def test_of_codes_only_digests_are_stored(desk, ann):
    codes = await device_login.begin(desk, LAPTOP, VISITOR)
    async with reading_async(desk.engine) as connection:
        stored = repr((await connection.execute(sa.select(device_logins))).all())
    assert codes.device_code not in stored
    assert codes.user_code not in stored
    assert codes.user_code.replace("-", "") not in stored


@given(st.text(max_size=20))
def test_what_is_typed_is_a_code_or_refused(typed):
    try:
        code = normal_code(typed)
    except NotFound:
        return
    assert len(code) == 8
    assert set(code) <= set(LETTERS)
