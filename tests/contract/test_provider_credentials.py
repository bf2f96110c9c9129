"""Providers' keys: sealed where they lie, opened in memory only, and nobody's but their organisation's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from tokentide_common.accounts import create_organization
from tokentide_common.accounts_schema import provider_credentials
from tokentide_common.database import Engine, open_database, reading, writing
from tokentide_common.errors import InvalidRequest, NotFound
from tokentide_common.provider_credentials import (
    CredentialDirectory,
    Vault,
    forget_credential,
    keep_credential,
)

SECRET = "sk-ant-CANARY-0001"
VAULT = Vault("k" * 32)


@pytest.fixture
def engine(database_url) -> Iterator[Engine]:
    opened = open_database(database_url)
    yield opened
    opened.dispose()


async def opened(engine: Engine, vault: Vault | None = VAULT) -> CredentialDirectory:
    directory = CredentialDirectory(engine, vault)
    await directory.refresh()
    return directory


async def test_a_kept_key_is_found_for_its_organisation_and_provider_only(engine: Engine) -> None:
    mine, other = (create_organization(engine, name) for name in ("mine", "other"))
    keep_credential(engine, VAULT, mine, "anthropic", SECRET)
    directory = await opened(engine)
    assert directory.secret_for(mine, "anthropic") == SECRET
    assert directory.secret_for(mine, "openai") is None
    assert directory.secret_for(other, "anthropic") is None


async def test_the_database_holds_ciphertext_only(engine: Engine) -> None:
    org_id = create_organization(engine, "o")
    keep_credential(engine, VAULT, org_id, "anthropic", SECRET)
    with reading(engine) as connection:
        (row,) = connection.execute(
            sa.select(provider_credentials).where(provider_credentials.c.org_id == org_id)
        )
    assert SECRET not in repr(tuple(row))


async def test_a_new_key_replaces_the_old_one_and_a_forgotten_one_is_gone(engine: Engine) -> None:
    org_id = create_organization(engine, "o")
    directory = await opened(engine)
    for secret in (SECRET, SECRET + "-2"):
        keep_credential(engine, VAULT, org_id, "anthropic", secret)
        await directory.refresh()
        assert directory.secret_for(org_id, "anthropic") == secret
    forget_credential(engine, org_id, "anthropic")
    await directory.refresh()
    assert directory.secret_for(org_id, "anthropic") is None
    with pytest.raises(NotFound):
        forget_credential(engine, org_id, "anthropic")


async def test_another_secret_key_or_a_moved_row_opens_nothing(engine: Engine) -> None:
    mine, other = (create_organization(engine, name) for name in ("mine", "other"))
    keep_credential(engine, VAULT, mine, "anthropic", SECRET)
    assert (await opened(engine, Vault("x" * 32))).secret_for(mine, "anthropic") is None
    assert (await opened(engine, None)).secret_for(mine, "anthropic") is None
    with writing(engine) as connection:
        of_mine = provider_credentials.c.org_id == mine
        connection.execute(sa.update(provider_credentials).where(of_mine).values(org_id=other))
    assert (await opened(engine)).secret_for(other, "anthropic") is None


@pytest.mark.parametrize("secret", ["", "two words", "line\nbreak", "ümlaut", "x" * 5000])
def test_what_cannot_be_a_key_is_refused(engine: Engine, secret: str) -> None:
    with pytest.raises(InvalidRequest):
        keep_credential(engine, VAULT, create_organization(engine, "o"), "anthropic", secret)


def test_an_unknown_organisation_keeps_nothing(engine: Engine) -> None:
    with pytest.raises(NotFound):
        keep_credential(engine, VAULT, "org_unknown", "anthropic", SECRET)


def test_without_a_secret_key_there_is_no_vault() -> None:
    with pytest.raises(InvalidRequest, match="TOKENTIDE_SECRET_KEY"):
        Vault("")
