"""When keys were used and machines seen is written in the background, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from tokentide_common.accounts import KeyDirectory, create_organization, issue_key
from tokentide_common.accounts_schema import api_keys, machines
from tokentide_common.database import Engine, open_database, reading, writing
from tokentide_common.last_seen import SeenMachine


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    opened = open_database(database_url)
    create_organization(opened, "A", org_id="org_a")
    yield opened
    opened.dispose()


def told(engine: Engine, table: sa.Table) -> list[Any]:
    with reading(engine) as connection:
        return [row._mapping for row in connection.execute(sa.select(table))]


async def test_the_use_of_a_key_is_written_once_asked_for_and_never_goes_back(engine: Engine) -> None:
    secret, record = issue_key(engine, "org_a", "m", machine_id="desk")
    issue_key(engine, "org_a", "m")
    keys = KeyDirectory(engine)
    await keys.refresh()
    before = datetime.now(UTC)
    keys.resolve(secret, "m")
    assert {row["last_used_at"] for row in told(engine, api_keys)} == {None}  # not on the request's path
    await keys.last_seen.write()
    used = {row["key_id"]: row["last_used_at"] for row in told(engine, api_keys)}
    assert used.pop(record.key_id) >= before
    assert set(used.values()) == {None}
    assert [row["machine_id"] for row in told(engine, machines)] == ["desk"]
    later = datetime(2100, 1, 1, tzinfo=UTC)
    with writing(engine) as connection:
        connection.execute(sa.update(api_keys).values(last_used_at=later))
    keys.resolve(secret, "m")
    await keys.last_seen.write()
    assert {row["last_used_at"] for row in told(engine, api_keys)} == {later}
    # Writing it is no change of the key: no directory has to read it again.
    assert len({row["revision"] for row in told(engine, api_keys)}) == 2


async def test_a_machine_keeps_its_first_sight_and_the_name_that_somebody_gave(engine: Engine) -> None:
    seen = KeyDirectory(engine).last_seen
    seen.machine(SeenMachine("org_a", "desk", name="from the client", cli_version="1.0"))
    await seen.write()
    (first,) = told(engine, machines)
    with writing(engine) as connection:
        connection.execute(sa.update(machines).values(name="Given"))
    seen.machine(SeenMachine("org_a", "desk", owner_id="nobody", name="again", cli_version="1.1"))
    await seen.write()
    (now,) = told(engine, machines)
    assert (now["name"], now["cli_version"], now["user_id"]) == ("Given", "1.1", None)
    assert now["first_seen_at"] == first["first_seen_at"] == first["last_seen_at"] < now["last_seen_at"]


async def test_what_was_noted_is_written_when_the_directory_stops(engine: Engine) -> None:
    secret, _ = issue_key(engine, "org_a", "a")
    keys = KeyDirectory(engine)
    await keys.start()
    keys.resolve(secret, "a")
    await keys.stop()
    assert told(engine, api_keys)[0]["last_used_at"] is not None


async def test_machines_that_a_key_invents_are_bounded(engine: Engine) -> None:
    seen = KeyDirectory(engine).last_seen
    for n in range(3_000):
        seen.machine(SeenMachine("org_a", f"m{n}"))
    seen.machine(SeenMachine("org_a", "x" * 201))
    await seen.write()
    assert len(told(engine, machines)) == 1_000
