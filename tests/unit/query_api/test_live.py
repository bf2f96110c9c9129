"""The live stream without a broker: who sees what, resumption, bounds, slow readers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from tokentide_common.errors import Unauthorized
from tokentide_query_api.live.changes import change_seen, read_changes
from tokentide_query_api.live.hub import LiveHub
from tokentide_query_api.live.stream import events
from tokentide_query_api.scope import Sight
from tokentide_query_api.visibility import own_calls

ADMIN = Sight("org_a", own=None, people=True)
MEMBER = Sight("org_a", own=own_calls("ann", "Ann@acme.example"), people=True)
VIEWER = Sight("org_a", own=None, people=False)
OTHER = Sight("org_b", own=None, people=True)


def row(call_id: str, **fields: Any) -> bytes:
    said = {"org_id": "org_a", "call_id": call_id, "occurred_at": datetime(2026, 11, 22, tzinfo=UTC)}
    return msgspec.json.encode({**said, "output_tokens": 5, "cost_nano": 2_000_000_000, **fields})


def seen(value: bytes, sight: Sight) -> Any:
    told = change_seen(read_changes(value), sight)
    return None if told is None else msgspec.json.decode(told)


def hub_with(*values: bytes, start: int = 10) -> LiveHub:
    hub = LiveHub("kafka://127.0.0.1:1")
    for number, value in enumerate(values):
        hub.take(start + number, 1000 + number, b"key-%d" % (start + number), value)
    return hub


async def same(sight: Sight) -> Sight:
    return sight


def stream(hub: LiveHub, sight: Sight = ADMIN, last_id: str = "") -> AsyncIterator[bytes]:
    return events(hub, sight, last_id, lambda: same(sight), beat_s=0.01)


def test_an_upgrade_adds_what_it_changed_and_shows_the_call_as_it_is():
    old = row("a", output_tokens=5, sign=-1)
    told = seen(b"\n".join([old, row("a", output_tokens=7, version=2), row("b", status="error")]), ADMIN)
    assert (told["totals"]["calls"], told["totals"]["output_tokens"], told["totals"]["errors"]) == (1, 7, 1)
    assert told["totals"]["cost_usd"] == "2"
    assert [(call["call_id"], call["version"]) for call in told["calls"]] == [("a", 2), ("b", 0)]


def test_each_sees_what_is_theirs():
    value = b"\n".join(
        [
            row("mine", user_id="ann"),
            row("mailed", user_email="ANN@acme.example"),
            row("bobs", user_id="bob", user_email="bob@acme.example"),
            row("theirs", org_id="org_b"),
            row("linked", same_as="mine"),
        ]
    )
    assert [call["call_id"] for call in seen(value, ADMIN)["calls"]] == ["mine", "mailed", "bobs"]
    assert [call["call_id"] for call in seen(value, MEMBER)["calls"]] == ["mine", "mailed"]
    assert seen(value, MEMBER)["totals"]["calls"] == 2
    assert seen(value, VIEWER).keys() == {"totals"}
    assert [call["call_id"] for call in seen(value, OTHER)["calls"]] == ["theirs"]
    assert seen(row("nobodys"), MEMBER) is None


def test_many_calls_at_once_are_all_in_the_sums():
    told = seen(b"\n".join(row(f"c{n}") for n in range(120)), ADMIN)
    assert told["totals"]["calls"] == 120
    assert [call["call_id"] for call in told["calls"]] == [f"c{n}" for n in range(70, 120)]


async def first(stream: AsyncIterator[bytes], count: int) -> list[bytes]:
    return [await anext(stream) for _ in range(count)]


async def test_a_stream_goes_on_after_the_event_that_was_seen_last():
    hub = hub_with(row("a"), row("b"), row("c"))
    (change,) = await first(stream(hub, last_id="11-1001"), 1)
    assert change.startswith(b"id: 12-1002\nevent: change\ndata: ")
    assert b'"call_id":"c"' in change
    resumed = stream(hub, last_id="12-1002")
    assert await first(resumed, 1) == [b": still here\nid: 12-1002\n\n"]
    hub.take(13, 1003, b"new", row("d"))
    assert b'"call_id":"d"' in (await first(resumed, 1))[0]


@pytest.mark.parametrize("unknown", ["9-999", "12-7", "99-1", "nonsense", "-1-1"])
async def test_who_was_away_too_long_hears_that_some_was_missed(unknown: str):
    hub = hub_with(row("a"), row("b"), row("c"))
    assert await first(stream(hub, last_id=unknown), 1) == [b"id: 12-1002\nevent: reset\ndata: {}\n\n"]


async def test_a_new_stream_begins_with_what_comes():
    hub = hub_with(row("a"))
    opened = stream(hub)
    assert await first(opened, 1) == [b"id: 10-1000\nevent: hello\ndata: {}\n\n"]
    hub.take(11, 1001, b"new", row("b"))
    (change,) = await first(opened, 1)
    assert (b'"call_id":"a"' in change, b'"call_id":"b"' in change) == (False, True)


async def test_a_record_that_is_told_twice_counts_once():
    hub = hub_with(row("a"))
    opened = stream(hub)
    await first(opened, 1)
    hub.take(11, 1001, b"key-10", row("a"))
    assert await first(opened, 1) == [b": still here\nid: 11-1001\n\n"]


@pytest.mark.parametrize("value", [b"", b"{", b"\xff"])
async def test_what_is_not_told_call_by_call_is_a_reset(value: bytes):
    hub = hub_with(row("a"))
    opened = stream(hub)
    await first(opened, 1)
    hub.take(11, 1001, b"large", value)
    assert await first(opened, 1) == [b"id: 11-1001\nevent: reset\ndata: {}\n\n"]


async def test_a_slow_reader_is_cut_and_memory_stays_bounded():
    hub = hub_with(row("a"))
    slow = stream(hub)
    await first(slow, 1)
    for offset in range(11, 5000):
        hub.take(offset, offset, b"%d" % offset, row("b"))
    assert [event async for event in slow] == []
    assert hub.place_of("10-1000") is None


async def test_a_revoked_key_and_a_stopping_service_end_the_stream():
    async def revoked() -> Sight:
        raise Unauthorized("the key was revoked")

    hub = hub_with(row("a"))
    ended = [event async for event in events(hub, ADMIN, "10-1000", revoked, beat_s=0.01)]
    assert ended == []
    hub.close()
    assert [event async for event in stream(hub, last_id="10-1000")] == []


async def test_a_hub_that_lost_its_place_does_not_spin():
    hub = hub_with()
    opened = stream(hub)
    assert await first(opened, 2) == [b"event: hello\ndata: {}\n\n", b": still here\n\n"]
    after: Sequence[object] | None = await hub.after(5, wait_s=0.01)
    assert after is None
