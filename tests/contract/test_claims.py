"""Batch claims: whoever claims a start first decides the end, among threads and among processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tokentide_common.claims import ABANDONED_AFTER, SETTLED_FOR, claim, forget_claims
from tokentide_common.database import open_database, reading
from tokentide_common.schema import batch_claims

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
STARTS = 30
RIVAL = f"""
import sys
from tokentide_common.claims import claim
from tokentide_common.database import open_database
engine = open_database(sys.argv[1])
own = int(sys.argv[2])
print(*[claim(engine, "usage", 3, start, "f", start * 1000 + own).end for start in range({STARTS})])
engine.dispose()
"""


@pytest.fixture
def engine(database_url) -> Iterator[Engine]:
    engine = open_database(database_url)
    yield engine
    engine.dispose()


def stored(engine: Engine) -> int:
    with reading(engine) as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(batch_claims)).scalar_one())


def test_the_first_claim_of_a_start_wins_and_every_later_one_is_told_its_end(engine):
    assert claim(engine, "usage", 0, 100, "f", 199).end == 199
    assert claim(engine, "usage", 0, 100, "f", 150).end == 199
    assert claim(engine, "usage", 0, 100, "f", 400).end == 199


def test_a_claim_says_whether_somebody_was_there_before(engine):
    assert [claim(engine, "usage", 0, start, "f", 10).anew for start in (0, 0, 5, 0)] == [
        True,
        False,
        True,
        False,
    ]


def test_topic_partition_start_and_fingerprint_each_make_another_claim(engine):
    assert claim(engine, "usage", 0, 100, "f", 1).end == 1
    assert claim(engine, "activity", 0, 100, "f", 2).end == 2
    assert claim(engine, "usage", 1, 100, "f", 3).end == 3
    assert claim(engine, "usage", 0, 101, "f", 4).end == 4
    assert claim(engine, "usage", 0, 100, "recreated", 5).end == 5


def test_offsets_beyond_32_bits_are_kept_exactly(engine):
    assert claim(engine, "usage", 0, 2**62, "f", 2**62 + 1).end == 2**62 + 1


def test_threads_and_processes_that_race_for_a_start_all_obey_one_end(engine, database_url):
    rivals = [
        subprocess.Popen([sys.executable, "-c", RIVAL, database_url, str(own)], stdout=subprocess.PIPE)
        for own in (801, 802)
    ]

    def race(own: int) -> list[int]:
        return [claim(engine, "usage", 3, start, "f", start * 1000 + own).end for start in range(STARTS)]

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(race, range(1, 7)))
    for rival in rivals:
        out, _ = rival.communicate()
        assert rival.returncode == 0
        answers.append([int(end) for end in out.split()])
    assert len(answers) == 8
    assert all(answer == answers[0] for answer in answers)
    assert stored(engine) == STARTS


def test_a_claim_that_others_may_still_need_is_never_forgotten(engine):
    claim(engine, "usage", 0, 0, "f", 99, now=NOW - SETTLED_FOR + timedelta(seconds=1))
    claim(engine, "usage", 0, 100, "f", 199, now=NOW - SETTLED_FOR - timedelta(days=1))
    assert forget_claims(engine, "usage", 0, before_offset=100, now=NOW) == 0
    assert forget_claims(engine, "usage", 0, before_offset=199, now=NOW) == 0


def test_settled_and_abandoned_claims_of_this_partition_are_forgotten(engine):
    claim(engine, "usage", 0, 0, "f", 99, now=NOW - SETTLED_FOR - timedelta(seconds=1))
    claim(engine, "usage", 1, 0, "f", 99, now=NOW - SETTLED_FOR - timedelta(seconds=1))
    claim(engine, "usage", 0, 9000, "old topic", 9099, now=NOW - ABANDONED_AFTER - timedelta(seconds=1))
    assert forget_claims(engine, "usage", 0, before_offset=100, now=NOW) == 2
    assert stored(engine) == 1
