"""Which names are time zones."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from infra.sqlite import migrated_sqlite
from tokentide_common.accounts import create_organization
from tokentide_common.accounts_schema import organizations
from tokentide_common.database import open_database, writing
from tokentide_common.time_zones import time_zone
from tokentide_ranker.organizations import zone_of


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"])
def test_a_zone_by_its_name(name):
    assert time_zone(name).key == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Nowhere",
        "Europe",
        "../UTC",
        "/etc/localtime",
        "right/UTC",
        "posix/UTC",
        "posixrules",
        "localtime",
        "Factory",
        "a\0b",
        "zone.tab",
        "x" * 5000,
    ],
)
def test_what_is_beside_the_zones_is_none(name):
    with pytest.raises(ValueError, match="no IANA time zone"):
        time_zone(name)


async def test_an_organisation_with_a_zone_that_is_none_is_ranked_in_utc(tmp_path):
    engine = open_database(migrated_sqlite(tmp_path / "accounts.db"))
    create_organization(engine, "Org A", org_id="org_a", time_zone="Europe/Berlin")
    assert (await zone_of(engine, "org_a")).key == "Europe/Berlin"
    for wrong in ("right/Europe/Berlin", "Nowhere"):
        with writing(engine) as connection:
            connection.execute(sa.update(organizations).values(time_zone=wrong))
        assert (await zone_of(engine, "org_a")).key == "UTC"
    engine.dispose()
