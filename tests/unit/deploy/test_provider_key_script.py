"""The providers' keys of an installation without `tokentide up`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tokentide_common.accounts import create_organization
from tokentide_common.database import open_database
from tokentide_common.provider_credentials import CredentialDirectory, Vault

SECRET, VAULT_KEY = "sk-CANARY-of-the-provider", "v" * 40


def provider_key(
    database: Path, *arguments: str, said: str = "", vault_key: str = VAULT_KEY
) -> subprocess.CompletedProcess[str]:
    settings = {"TOKENTIDE_DATABASE_URL": f"sqlite:///{database}", "TOKENTIDE_SECRET_KEY": vault_key}
    return subprocess.run(
        [sys.executable, "-m", "tokentide_common.provider_key", *arguments],
        env={**os.environ, **settings},
        input=said,
        capture_output=True,
        text=True,
        check=False,
    )


async def test_a_key_is_kept_for_its_organization_listed_by_name_and_removed(tmp_path: Path) -> None:
    database = tmp_path / "accounts.db"
    engine = open_database(f"sqlite:///{database}")
    org_id = create_organization(engine, "Acme")
    done = provider_key(database, "set", org_id, "openai", said=f"{SECRET}\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    directory = CredentialDirectory(engine, Vault(VAULT_KEY))
    await directory.refresh()
    assert directory.secret_for(org_id, "openai") == SECRET
    (listed,) = json.loads(provider_key(database, "list", org_id).stdout)
    assert (listed["name"], sorted(listed)) == ("openai", ["changed_at", "name"])
    assert provider_key(database, "remove", org_id, "openai").returncode == 0
    await directory.refresh()
    assert directory.secret_for(org_id, "openai") is None
    engine.dispose()


def test_what_is_wrong_is_said_in_words_without_the_key(tmp_path: Path) -> None:
    database = tmp_path / "accounts.db"
    for arguments, vault_key, word in (
        (("set", "org_unknown", "openai"), VAULT_KEY, "no such organization"),
        (("set", "org_unknown", "openai"), "", "TOKENTIDE_SECRET_KEY"),
        (("remove", "org_unknown", "openai"), VAULT_KEY, "no key is kept"),
    ):
        done = provider_key(database, *arguments, said=SECRET, vault_key=vault_key)
        assert (done.returncode, done.stdout) == (1, "")
        assert word in done.stderr
        assert "CANARY" not in done.stderr
        assert "Traceback" not in done.stderr
