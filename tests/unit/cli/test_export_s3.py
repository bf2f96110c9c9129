"""`tokentide export --to s3://…`: the same lake in a bucket, over a server that speaks S3."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from infra.query_stub import QueryStub, days_with
from tokentide.failures import Exit

from .conftest import Run

DAYS = [f"lake/year=2026/month=11/day={day}/calls.parquet" for day in (20, 22)]
STATE = "lake/_tokentide.json"
COMMAND = ("export", "2026-11-20..2026-11-22", "--to", "s3://tide/lake/", "--json")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a server that speaks S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(address: str, monkeypatch: pytest.MonkeyPatch, home: object) -> Iterator[Any]:
    """An empty bucket, which the environment leads to as it leads the AWS command."""
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "ours",
        "AWS_SECRET_ACCESS_KEY": "our-secret",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(name, value)
    made = boto3.resource("s3", endpoint_url=address).create_bucket(
        Bucket="tide", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    yield made
    made.objects.all().delete()
    made.delete()


@pytest.fixture
def stub(query_stub: QueryStub) -> QueryStub:
    me = {"organisation": {"id": "org_a"}, "role": "member", "user": {"id": "usr_1"}}
    query_stub.answers = {"me": me, "partitions": days_with(3, 0, 2), "calls": "the file"}
    return query_stub


def files(bucket: Any) -> list[str]:
    """Return the names of objects; a name that ends with a slash is the mark of a folder."""
    return [each.key for each in bucket.objects.all() if not each.key.endswith("/")]


def test_a_day_is_an_object_and_only_what_changed_is_written_again(
    stub: QueryStub, bucket: Any, tokentide: Run
) -> None:
    assert json.loads(tokentide(*COMMAND).out) == {"written": 2, "removed": 0, "unchanged": 0}
    assert files(bucket) == [STATE, *DAYS]
    assert bucket.Object(DAYS[0]).get()["Body"].read() == b'"the file"'
    assert json.loads(tokentide(*COMMAND).out) == {"written": 0, "removed": 0, "unchanged": 2}
    bucket.Object(DAYS[1]).delete()
    assert json.loads(tokentide(*COMMAND).out) == {"written": 1, "removed": 0, "unchanged": 1}
    stub.answers["partitions"] = days_with(0, 0, 5)
    assert json.loads(tokentide(*COMMAND).out) == {"written": 1, "removed": 1, "unchanged": 0}
    assert files(bucket) == [STATE, DAYS[1]]
    assert json.loads(bucket.Object(STATE).get()["Body"].read())["files"] == {
        DAYS[1].removeprefix("lake/"): f"{5:016X}"
    }
    refused = tokentide(*COMMAND, "--partition", "hour")
    assert (refused.code, "s3://tide/lake holds" in refused.err) == (Exit.USAGE, True)


def test_what_breaks_off_leaves_no_object(stub: QueryStub, bucket: Any, tokentide: Run) -> None:
    del stub.answers["calls"]  # the connection ends without an answer
    assert tokentide(*COMMAND).code == Exit.TRY_LATER
    assert files(bucket) == []


def test_what_the_store_refuses_is_told_without_credentials(
    stub: QueryStub, bucket: Any, tokentide: Run
) -> None:
    ended = tokentide("export", "2026-11-20..2026-11-22", "--to", "s3://nobodys/lake")
    assert (ended.code, "s3://nobodys/lake" in ended.err) == (Exit.FAILED, True)
    assert "AWS_PROFILE" in ended.err
    assert "our-secret" not in ended.err
