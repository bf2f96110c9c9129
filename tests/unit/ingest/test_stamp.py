"""Whose a call is, by what its key stands for and what it says itself: one person under one name."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tokentide_common.accounts import KeyRecord
from tokentide_common.events import UsageEvent
from tokentide_ingest.stamp import defaults_of, stamp

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
ADA: dict[str, str] = {"user_id": "ada", "user_email": "Ada@x.io"}


def stamped(key: dict[str, str], **said: Any) -> UsageEvent:
    event = UsageEvent(call_id="req_1", source="otlp", occurred_at=NOON, **said)
    record = KeyRecord(key_id="k", org_id="o", kind="m", **key)
    stamp(event, record, defaults_of(record))
    return event


def by_telemetry(address: str) -> dict[str, str]:
    return {"user_id": address, "user_email": address, "account_id": "acc", "device_id": "dev"}


def test_telemetry_that_names_the_keys_own_user_by_address_counts_for_that_user() -> None:
    assert stamped(ADA).user_id == stamped(ADA, **by_telemetry("ada@x.io")).user_id == "ada"


def test_telemetry_that_names_somebody_else_counts_for_that_person() -> None:
    event = stamped(ADA, **by_telemetry("bob@x.io"))
    assert (event.user_id, event.user_email) == ("bob@x.io", "bob@x.io")


def test_a_user_that_is_named_otherwise_than_by_the_address_stays_that_user() -> None:
    assert stamped(ADA, user_id="zoe", user_email="ada@x.io").user_id == "zoe"


@pytest.mark.parametrize("said", [{}, {"account_id": "acc"}, by_telemetry("ada@x.io")])
def test_a_key_that_has_an_address_alone_names_its_user_as_telemetry_does(said: dict[str, str]) -> None:
    assert stamped({"user_email": "Ada@x.io"}, **said).user_id == "ada@x.io"


def test_for_want_of_a_person_the_account_stands_for_one_and_then_the_installation() -> None:
    assert stamped({}, account_id="acc", device_id="dev").user_id == "acc"
    assert stamped({}, device_id="dev").user_id == "dev"
    assert stamped({}).user_id == ""
