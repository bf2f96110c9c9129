"""Passwords and their hashes."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.desks import CHEAP
from tokentide_common.errors import Unavailable
from tokentide_query_api.accounts.passwords import Passwords

WRITABLE = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)


@given(WRITABLE, WRITABLE)
@settings(max_examples=30)
def test_a_password_opens_its_own_hash_and_nothing_else(one, other):
    async def check() -> None:
        passwords = Passwords(**CHEAP)
        stored = await passwords.hashed(one)
        assert stored.startswith("$argon2id$")
        assert await passwords.verified(stored, one)
        assert not await passwords.verified(stored, one + "x")
        assert not await passwords.verified(None, other)

    asyncio.run(check())


async def test_a_password_may_be_typed_on_another_keyboard():
    passwords = Passwords(**CHEAP)
    assert await passwords.verified(
        await passwords.hashed("pass\u00e9 compos\u00e9"), "passe\u0301 compose\u0301"
    )


@pytest.mark.parametrize("stored", ["", "nonsense", "$argon2id$v=19$m=8,t=1,p=1$broken"])
async def test_what_is_no_hash_is_opened_by_nothing(stored):
    assert not await Passwords(**CHEAP).verified(stored, "a password")


async def test_nobody_is_known_by_any_password():
    passwords = Passwords(**CHEAP)
    assert not await passwords.verified(None, "")
    assert not await passwords.verified(None, "a password")


async def test_a_hash_of_todays_cost_is_not_outdated():
    cheap, dear = Passwords(**CHEAP), Passwords(time_cost=2, memory_kib=16)
    stored = await cheap.hashed("a password")
    assert not cheap.outdated(stored)
    assert dear.outdated(stored)


async def test_a_flood_of_logins_is_told_to_come_back_and_the_first_ones_are_served():
    passwords = Passwords(**CHEAP)
    ended = await asyncio.gather(*(passwords.hashed("x") for _ in range(150)), return_exceptions=True)
    assert sum(isinstance(one, Unavailable) for one in ended) == 50
    assert await passwords.hashed("x")
