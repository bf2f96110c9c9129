"""The accounts database read by its driver alone: the same keys as through the engine, and no table made."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from tokentide_common.accounts import create_organization, issue_key, revoke_key
from tokentide_common.accounts_reader import AccountsReader
from tokentide_common.accounts_schema import api_keys
from tokentide_common.credential_directory import LiveCredentials
from tokentide_common.database import Engine, open_database, reading, writing
from tokentide_common.errors import Unauthorized, Unavailable
from tokentide_common.key_directory import LiveKeys
from tokentide_common.provider_credentials import Vault, keep_credential

VAULT = Vault("k" * 32)


@pytest.fixture
def reader(database_url: str) -> Iterator[AccountsReader]:
    opened = AccountsReader(database_url)
    yield opened
    opened.close()


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    opened = open_database(database_url)
    yield opened
    opened.dispose()


async def test_keys_are_those_that_were_issued_and_not_revoked(
    engine: Engine, reader: AccountsReader
) -> None:
    org_id = create_organization(engine, "o")
    secret, record = issue_key(engine, org_id, "p", user_id="dev", user_email="dev@example.com", team="core")
    other, revoked = issue_key(engine, org_id, "p")
    keys = LiveKeys(reader.select)
    await keys.refresh()
    assert keys.resolve(secret, "p") == record
    revoke_key(engine, org_id, revoked.key_id)
    await keys.refresh()
    with pytest.raises(Unauthorized):
        keys.resolve(other, "p")


def test_the_use_of_keys_is_noted_as_the_engine_reads_it(engine: Engine, reader: AccountsReader) -> None:
    org_id = create_organization(engine, "o")
    used, unused = issue_key(engine, org_id, "p")[1], issue_key(engine, org_id, "p")[1]
    at = datetime(2026, 11, 22, 10, 30, 0, 123_000, tzinfo=UTC)
    reader.note_use([used.key_id, "no'such"], at)
    reader.note_use([used.key_id], at - timedelta(hours=1))
    reader.note_use([], at)
    with reading(engine) as connection:
        told = connection.execute(sa.select(api_keys.c.key_id, api_keys.c.last_used_at)).all()
    assert {tuple(row) for row in told} == {(used.key_id, at), (unused.key_id, None)}


async def test_providers_keys_are_opened(engine: Engine, reader: AccountsReader) -> None:
    org_id = create_organization(engine, "o")
    keep_credential(engine, VAULT, org_id, "anthropic", "sk-ant-1")
    credentials = LiveCredentials(reader.select, VAULT)
    await credentials.refresh()
    assert credentials.secret_for(org_id, "anthropic") == "sk-ant-1"


async def test_before_there_are_tables_it_waits_and_makes_none(empty_database_url: str) -> None:
    reader = AccountsReader(empty_database_url)
    keys = LiveKeys(reader.select)
    for _ in range(2):
        with pytest.raises(Unavailable, match="not set up yet"):
            await keys.refresh()
    engine = open_database(empty_database_url)
    await keys.refresh()
    engine.dispose()
    reader.close()


def test_a_database_that_restarted_costs_no_question(engine: Engine, reader: AccountsReader) -> None:
    assert reader.select("SELECT 1") == [(1,)]
    if engine.dialect.name == "postgresql":
        with writing(engine) as connection:
            connection.execute(
                sa.text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                    "AND datname = current_database()"
                )
            )
    assert reader.select("SELECT 1") == [(1,)]


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        AccountsReader(f"sqlite:///{tmp_path}/none.db").select("SELECT 1")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_away_is_an_outage() -> None:
    with pytest.raises(Unavailable) as caught:
        AccountsReader("postgresql://u:secret@127.0.0.1:1/d").select("SELECT 1")
    assert "secret" not in caught.value.detail
