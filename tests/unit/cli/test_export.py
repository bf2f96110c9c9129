"""`tokentide export`: a folder of files by day or hour, brought up to date and never half written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.query_stub import QueryStub, days_with
from tokentide.failures import Exit

from .conftest import Run


@pytest.fixture
def stub(query_stub: QueryStub) -> QueryStub:
    me = {"organisation": {"id": "org_a"}, "role": "member", "user": {"id": "usr_1"}}
    query_stub.answers = {"me": me, "partitions": days_with(3, 0, 2), "calls": "the file"}
    return query_stub


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def exported(stub: QueryStub) -> list[str]:
    found = [asked["from"][0][:10] for name, asked in stub.asked if name == "calls"]
    stub.asked.clear()
    return found


def test_a_day_is_a_file_and_only_what_changed_is_written_again(
    stub: QueryStub, tokentide: Run, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    command = ("export", "2026-11-20..2026-11-22", "--to", str(lake), "--json")
    assert json.loads(tokentide(*command).out) == {"written": 2, "removed": 0, "unchanged": 0}
    assert stub.asked[1] == (
        "partitions",
        {"from": ["2026-11-20"], "to": ["2026-11-22"], "tz": ["UTC"], "bucket": ["day"]},
    )
    assert stub.asked[2][1] == {
        "from": ["2026-11-20T00:00:00+00:00"],
        "to": ["2026-11-21T00:00:00+00:00"],
        "format": ["parquet"],
    }
    days = [f"year=2026/month=11/day={day}/calls.parquet" for day in (20, 22)]
    assert files(lake) == ["_tokentide.json", *days]
    exported(stub)
    assert json.loads(tokentide(*command).out) == {"written": 0, "removed": 0, "unchanged": 2}
    assert exported(stub) == []
    stub.answers["partitions"] = days_with(3, 0, 5)
    tokentide(*command)
    assert exported(stub) == ["2026-11-22"]
    tokentide(*command, "--again")
    assert exported(stub) == ["2026-11-20", "2026-11-22"]
    stub.answers["partitions"] = days_with(0, 0, 5)
    assert json.loads(tokentide(*command).out) == {"written": 0, "removed": 1, "unchanged": 1}
    assert files(lake) == ["_tokentide.json", days[1]]


def test_hours_have_a_level_of_their_own(stub: QueryStub, tokentide: Run, tmp_path: Path) -> None:
    ended = tokentide("export", "--to", str(tmp_path / "lake"), "--partition", "hour")
    assert (ended.code, "2 files written" in ended.err) == (0, True)
    assert "year=2026/month=11/day=22/hour=00/calls.parquet" in files(tmp_path / "lake")


def test_what_breaks_off_leaves_no_file_and_is_written_the_next_time(
    stub: QueryStub, tokentide: Run, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    file = stub.answers.pop("calls")  # the connection ends without an answer
    assert tokentide("export", "--to", str(lake)).code == Exit.TRY_LATER
    assert files(lake) == []
    stub.answers["calls"] = file
    assert tokentide("export", "--to", str(lake)).code == 0
    assert len(files(lake)) == 3


@pytest.mark.parametrize("address", ["gs://bucket/lake", "s3://", "s3:///lake"])
def test_an_address_that_is_no_bucket_is_no_folder_either(
    stub: QueryStub, tokentide: Run, address: str
) -> None:
    assert tokentide("export", "--to", address).code == Exit.USAGE


def test_without_the_package_it_says_how_to_write_to_s3(
    stub: QueryStub, tokentide: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokentide.export.find_spec", lambda _: None)
    assert "cli[s3]" in tokentide("export", "--to", "s3://bucket/lake").err


@pytest.mark.parametrize(
    ("me", "partition"),
    [
        ({}, "hour"),
        ({"organisation": {"id": "org_b"}}, "day"),
        ({"user": {"id": "usr_2"}}, "day"),
        ({"role": "admin"}, "day"),
    ],
)
def test_a_folder_with_other_calls_or_partitions_is_left_alone(
    stub: QueryStub, tokentide: Run, tmp_path: Path, me: dict[str, Any], partition: str
) -> None:
    lake = tmp_path / "lake"
    assert tokentide("export", "--to", str(lake)).code == 0
    before = files(lake)
    stub.answers["me"] |= me
    refused = tokentide("export", "--to", str(lake), "--partition", partition)
    assert (refused.code, "another folder" in refused.err) == (Exit.USAGE, True)
    assert files(lake) == before
