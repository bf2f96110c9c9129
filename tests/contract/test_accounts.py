"""Accounts and the key directory, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine
from structlog.testing import capture_logs

from infra.waiting import until
from tokentide_common import accounts
from tokentide_common.accounts import KeyDirectory, create_organization, issue_key, revoke_key
from tokentide_common.accounts_schema import api_keys
from tokentide_common.database import open_database, reading, writing
from tokentide_common.errors import InvalidRequest, NotFound, Unauthorized, Unavailable
from tokentide_common.keys import mint_key


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def engine(database_url) -> Iterator[Engine]:
    engine = open_database(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def org(engine) -> str:
    return create_organization(engine, "Acme", time_zone="Asia/Kathmandu")


@pytest.fixture
async def directory(engine) -> AsyncIterator[KeyDirectory]:
    directory = KeyDirectory(engine)
    await directory.start()
    yield directory
    await directory.stop()


def refusal(directory: KeyDirectory, credentials: object, kinds: str = "mpa") -> str:
    with pytest.raises(Unauthorized) as caught:
        directory.resolve(credentials, kinds)
    return caught.value.detail


def test_an_organisation_keeps_its_time_zone(engine, org):
    assert accounts.organization_time_zone(engine, org) == "Asia/Kathmandu"
    assert accounts.organization_time_zone(engine, create_organization(engine, "B")) == "UTC"
    with pytest.raises(NotFound):
        accounts.organization_time_zone(engine, "org_none")


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "", "+05:45"])
def test_a_zone_that_is_not_iana_is_refused(engine, zone):
    with pytest.raises(InvalidRequest) as caught:
        create_organization(engine, "Acme", time_zone=zone)
    assert "time_zone" in caught.value.fields


def test_only_the_digest_of_a_key_is_stored(engine, org):
    secret, _ = issue_key(engine, org, "m", name="laptop")
    with reading(engine) as connection:
        stored = repr(connection.execute(sa.select(api_keys)).all())
    assert secret not in stored
    assert secret[5:20] not in stored


def test_no_key_is_issued_for_an_organisation_that_does_not_exist(engine):
    with pytest.raises(NotFound):
        issue_key(engine, "org_none", "m")


def test_a_key_can_be_revoked_only_by_its_own_organisation(engine, org):
    other = create_organization(engine, "Other")
    _, record = issue_key(engine, org, "m")
    with pytest.raises(NotFound):
        revoke_key(engine, other, record.key_id)
    revoke_key(engine, org, record.key_id)
    revoke_key(engine, org, record.key_id)


async def test_a_key_resolves_to_whom_it_speaks_for(engine, org, directory):
    facts = {
        "name": "ci",
        "user_id": "u1",
        "user_email": "ann@example.com",
        "machine_id": "m1",
        "project": "p",
        "team": "t",
        "department": "d",
    }
    secret, record = issue_key(engine, org, "m", **facts)
    await directory.refresh()
    assert directory.resolve(secret, "m") == record
    assert record.org_id == org
    assert {name: getattr(record, name) for name in facts} == facts


async def test_a_key_is_found_in_either_header_and_the_own_one_comes_first(engine, org, directory):
    secret, record = issue_key(engine, org, "p")
    await directory.refresh()
    for headers in (
        {"authorization": f"Bearer {secret}"},
        {"authorization": f"bearer  {secret} "},
        {"x-tokentide-key": secret},
        {"x-tokentide-key": secret, "authorization": "Bearer sk-of-the-provider"},
    ):
        assert directory.resolve(headers, "p") == record


async def test_no_unknown_revoked_and_wrong_kind_of_key_get_one_and_the_same_answer(engine, org, directory):
    revoked, record = issue_key(engine, org, "a")
    machine, _ = issue_key(engine, org, "m")
    revoke_key(engine, org, record.key_id)
    await directory.refresh()
    answers = {
        refusal(directory, {}),
        refusal(directory, {"authorization": "Basic dXNlcjpwYXNz"}),
        refusal(directory, "tt_m_nonsense"),
        refusal(directory, mint_key("a")[0]),
        refusal(directory, revoked),
        refusal(directory, machine, "a"),
    }
    assert len(answers) == 1


async def test_a_revoked_key_is_refused_within_five_seconds_without_any_call(engine, org, directory):
    secret, record = issue_key(engine, org, "m")
    await directory.refresh()
    directory.resolve(secret, "m")
    revoke_key(engine, org, record.key_id)
    revoked_at = time.monotonic()
    while True:
        try:
            directory.resolve(secret, "m")
        except Unauthorized:
            break
        assert time.monotonic() - revoked_at < 5
        await asyncio.sleep(0.02)


async def test_a_key_issued_a_moment_ago_is_admitted_at_once(engine, org):
    directory = KeyDirectory(engine, refresh_s=0.001)
    await directory.refresh()
    secret, record = issue_key(engine, org, "m")
    assert await directory.admit({"x-tokentide-key": secret}, "m") == record


async def test_a_flood_of_invented_keys_does_not_become_a_flood_of_queries(engine, org):
    clock = Clock()
    directory = KeyDirectory(engine, refresh_s=2, clock=clock)
    await directory.refresh()
    queries: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *args: queries.append(args[2]))
    for _ in range(20):
        with pytest.raises(Unauthorized):
            await directory.admit(mint_key("m")[0], "m")
    assert queries == []
    clock.now += 1
    invented = [directory.admit(mint_key("m")[0], "m") for _ in range(20)]
    answers = await asyncio.gather(*invented, return_exceptions=True)
    assert {type(answer) for answer in answers} == {Unauthorized}
    assert len([query for query in queries if "revisions" in query]) == 1


async def test_keys_are_read_again_only_when_one_was_issued_or_revoked(engine, org, directory):
    queries: list[str] = []
    _, record = issue_key(engine, org, "m")
    await directory.refresh()
    sa.event.listen(engine, "before_cursor_execute", lambda *args: queries.append(args[2]))
    await directory.refresh()
    assert [query for query in queries if "digest" in query] == []
    revoke_key(engine, org, record.key_id)
    await directory.refresh()
    assert len([query for query in queries if "digest" in query]) == 1


async def test_with_the_database_away_known_keys_work_for_a_while_and_then_nobody_is_let_in(engine, org):
    clock = Clock()
    directory = KeyDirectory(engine, clock=clock, stale_after_s=300)
    secret, record = issue_key(engine, org, "m")
    await directory.refresh()
    with writing(engine) as connection:
        connection.execute(sa.text("ALTER TABLE revisions RENAME TO gone"))
    with pytest.raises(Unavailable):
        await directory.refresh()
    clock.now += 299
    assert directory.resolve(secret, "m") == record
    clock.now += 2
    with pytest.raises(Unavailable):
        directory.resolve(secret, "m")


async def test_before_the_first_look_at_the_database_nobody_is_let_in(engine):
    with pytest.raises(Unavailable):
        KeyDirectory(engine).resolve(mint_key("m")[0], "m")


async def test_a_failed_refresh_is_logged_and_tried_again(engine, org):
    directory = KeyDirectory(engine, refresh_s=0.01)
    await directory.start()
    with writing(engine) as connection:
        connection.execute(sa.text("ALTER TABLE revisions RENAME TO gone"))
    with capture_logs() as logged:
        await until(lambda: any(line["event"] == "key_refresh_failed" for line in logged))
    with writing(engine) as connection:
        connection.execute(sa.text("ALTER TABLE gone RENAME TO revisions"))
    secret, record = issue_key(engine, org, "m")
    await until(lambda: _resolves(directory, secret))
    await directory.stop()
    assert directory.resolve(secret, "m") == record


def _resolves(directory: KeyDirectory, secret: str) -> bool:
    try:
        directory.resolve(secret, "m")
    except Unauthorized:
        return False
    return True
