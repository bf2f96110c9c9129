"""The first keys of an installation without `tokentide up`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tokentide_common.accounts import KeyDirectory, organization_time_zone
from tokentide_common.database import open_database


def new_organization(database: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tokentide_common.new_organization", *arguments],
        env={**os.environ, "TOKENTIDE_DATABASE_URL": f"sqlite:///{database}"},
        capture_output=True,
        text=True,
        check=False,
    )


async def test_the_printed_keys_open_the_doors_of_the_new_organization(tmp_path: Path) -> None:
    database = tmp_path / "accounts.db"
    done = new_organization(database, "Acme", "--time-zone", "Asia/Kathmandu")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    engine = open_database(f"sqlite:///{database}")
    directory = KeyDirectory(engine)
    await directory.refresh()
    for field, kind in (("api_key", "a"), ("machine_key", "m"), ("proxy_key", "p")):
        assert directory.resolve(made[field], (kind,)).org_id == made["organization"]
    assert organization_time_zone(engine, made["organization"]) == "Asia/Kathmandu"
    engine.dispose()


def test_a_time_zone_that_does_not_exist_is_refused_in_words(tmp_path: Path) -> None:
    done = new_organization(tmp_path / "accounts.db", "Acme", "--time-zone", "Mars/Olympus")
    assert done.returncode == 1
    assert done.stderr.strip() == "unknown time zone"
    assert done.stdout == ""
