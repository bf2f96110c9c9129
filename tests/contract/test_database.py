"""The SQL database on SQLite and PostgreSQL: set up by several processes, shared, honest when away."""

from __future__ import annotations

import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tokentide_common import database
from tokentide_common.accounts_schema import organizations, users
from tokentide_common.errors import InvalidRequest, Unavailable

OPEN = "import sys; from tokentide_common.database import open_database; open_database(sys.argv[1]).dispose()"


def test_several_processes_that_open_a_new_database_at_once_all_find_its_tables(empty_database_url):
    command = [sys.executable, "-W", "error", "-c", OPEN, empty_database_url]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
    complaints = [process.communicate()[1].decode() for process in processes]
    assert complaints == ["", "", "", ""]
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    engine = database.open_database(empty_database_url)
    tables = set(sa.inspect(engine).get_table_names())
    engine.dispose()
    assert {"organizations", "api_keys", "batch_claims", "leases"} <= tables


def test_opening_a_database_again_keeps_what_it_holds(empty_database_url):
    first = database.open_database(empty_database_url)
    with database.writing(first) as connection:
        connection.execute(
            sa.insert(organizations).values(org_id="o", name="Acme", created_at=database.utc_now())
        )
    first.dispose()
    again = database.open_database(empty_database_url)
    with database.reading(again) as connection:
        assert connection.execute(sa.select(organizations.c.time_zone)).scalar_one() == "UTC"
    again.dispose()


def test_times_come_back_aware_and_in_utc_whatever_zone_they_were_written_in(database_url):
    engine = database.open_database(database_url)
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    written = datetime(2026, 3, 29, 2, 30, 0, 123456, tzinfo=kathmandu)
    with database.writing(engine) as connection:
        connection.execute(sa.insert(organizations).values(org_id="o", name="Acme", created_at=written))
    with database.reading(engine) as connection:
        read = connection.execute(sa.select(organizations.c.created_at)).scalar_one()
    engine.dispose()
    assert read == written
    assert read.tzinfo is UTC


def test_a_time_without_a_zone_is_refused(database_url):
    engine = database.open_database(database_url)
    naive = datetime(2026, 1, 1)
    row = sa.insert(organizations).values(org_id="o", name="Acme", created_at=naive)
    with pytest.raises(sa.exc.StatementError, match="zone"), database.writing(engine) as connection:
        connection.execute(row)
    engine.dispose()


def test_writers_in_many_threads_wait_for_each_other_and_none_fails(database_url):
    engine = database.open_database(database_url)

    def add(number: int) -> None:
        with database.writing(engine) as connection:
            # Reads first: on SQLite, a transaction that became a writer only now would fail at once.
            connection.execute(sa.select(sa.func.count()).select_from(organizations)).scalar_one()
            connection.execute(
                sa.insert(organizations).values(
                    org_id=f"o{number}", name="Acme", created_at=database.utc_now()
                )
            )

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add, range(40)))
    with database.reading(engine) as connection:
        count = connection.execute(sa.select(sa.func.count()).select_from(organizations)).scalar_one()
    engine.dispose()
    assert count == 40


def test_a_reader_does_not_wait_for_a_writer(database_url):
    engine = database.open_database(database_url)
    with database.writing(engine) as writer:
        writer.execute(sa.insert(organizations).values(org_id="o", name="A", created_at=database.utc_now()))
        with database.reading(engine) as reader:
            assert reader.execute(sa.select(organizations.c.org_id)).all() == []
    engine.dispose()


def test_a_failed_transaction_leaves_nothing_behind(database_url):
    engine = database.open_database(database_url)

    def write_and_fail() -> None:
        with database.writing(engine) as connection:
            connection.execute(
                sa.insert(organizations).values(org_id="o", name="A", created_at=database.utc_now())
            )
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_and_fail()
    with database.reading(engine) as connection:
        assert connection.execute(sa.select(organizations.c.org_id)).all() == []
    engine.dispose()


def test_a_server_that_is_away_is_an_outage_and_no_crash():
    with pytest.raises(Unavailable) as caught:
        database.open_database("postgresql://nobody@127.0.0.1:1/nothing")
    assert caught.value.stable_code == "database_unavailable"


def test_an_error_text_quotes_no_values(database_url):
    engine = database.open_database(database_url)
    row = {"org_id": "o", "name": "very-confidential", "created_at": database.utc_now()}
    with pytest.raises(sa.exc.IntegrityError) as caught, database.writing(engine) as connection:
        connection.execute(sa.insert(organizations), [row, row])
    engine.dispose()
    assert "very-confidential" not in str(caught.value)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://localhost/db"])
def test_a_database_that_processes_cannot_share_is_refused(url):
    with pytest.raises(InvalidRequest):
        database.open_database(url)


async def test_an_error_of_the_schemas_rules_quotes_no_value(database_url):
    database.open_database(database_url).dispose()
    engine = database.open_async(database_url)
    one = {"email": "private@example.com", "created_at": database.utc_now()}

    async def add(user_id: str) -> None:
        async with database.writing_async(engine) as connection:
            await connection.execute(sa.insert(users).values(user_id=user_id, **one))

    await add("usr_1")
    with pytest.raises(IntegrityError) as caught:
        await add("usr_2")
    await engine.dispose()
    told = "".join(traceback.format_exception(caught.value))
    assert "IntegrityError" in told
    assert "private@" not in told
