"""The live stream without a broker: who sees what, resumption, bounds, slow readers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tokentide_common.broker import Tail
from tokentide_common.errors import Unauthorized, Unavailable
from tokentide_common.topics import COUNTED
from tokentide_query_api.accounts.safe import Safe
from tokentide_query_api.live.changes import change_seen, read_changes
from tokentide_query_api.live.event_ids import EventIds
from tokentide_query_api.live.hub import LiveHub
from tokentide_query_api.live.stream import FreshSight, events
from tokentide_query_api.scope import Sight
from tokentide_query_api.visibility import own_calls

ADMIN = Sight("org_a", own=None, people=True)
MEMBER = Sight("org_a", own=own_calls("ann", "Ann@acme.example"), people=True)
VIEWER = Sight("org_a", own=None, people=False)
OTHER = Sight("org_b", own=None, people=True)
SAFE = Safe("0123456789abcdef0123456789abcdef")
IDS = EventIds(SAFE, "org_a")


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
    return events(hub, IDS, told_id(last_id), lambda: same(sight), beat_s=0.01)


def told_id(place: str) -> str:
    """Return the id of an offset and a time, as a stream of org_a tells it."""
    return IDS.sealed("-".join(part.zfill(15) for part in place.split("-"))) if place else ""


def test_an_upgrade_adds_what_it_changed_and_shows_the_call_as_it_is():
    old = row("a", output_tokens=5, sign=-1)
    told = seen(b"\n".join([old, row("a", output_tokens=7, version=2), row("b", status="aborted")]), ADMIN)
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
    """Return the next events with their ids opened."""
    return [re.sub(rb"(?<=id: )\S+", opened, await anext(stream)) for _ in range(count)]


def opened(told: re.Match[bytes]) -> bytes:
    return b"-".join(b"%d" % int(part) for part in IDS.opened(told[0].decode()).encode().split(b"-"))


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
    for last_id in (told_id(unknown), unknown):
        answer = events(hub, IDS, last_id, lambda: same(ADMIN))
        assert await first(answer, 1) == [b"id: 12-1002\nevent: reset\ndata: {}\n\n"]


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
    assert hub.place_of(IDS.opened(told_id("10-1000"))) is None


async def revoked() -> Sight:
    raise Unauthorized("the key was revoked")


async def test_a_revoked_key_and_a_stopping_service_end_the_stream():
    hub = hub_with(row("a"))
    ended = [event async for event in events(hub, IDS, told_id("10-1000"), revoked, beat_s=0.01)]
    assert ended == []
    hub.close()
    assert [event async for event in stream(hub, last_id="10-1000")] == []


async def test_a_hub_that_lost_its_place_does_not_spin():
    hub = hub_with()
    opened = stream(hub)
    assert await first(opened, 2) == [b"event: hello\ndata: {}\n\n", b": still here\n\n"]
    after: Sequence[object] | None = await hub.after(5, wait_s=0.01)
    assert after is None


async def test_however_much_there_is_to_tell_nothing_is_told_to_a_revoked_key():
    hub = hub_with(row("a"), row("b"), row("c"))
    sights = [ADMIN]

    async def sight() -> Sight:
        return sights[0] if sights else await revoked()

    busy = events(hub, IDS, told_id("10-1000"), sight)
    assert b'"call_id":"b"' in (await first(busy, 1))[0]
    sights.clear()
    hub.take(13, 1003, b"new", row("d"))
    assert [event async for event in busy] == []


async def test_who_may_see_is_looked_up_again_by_the_clock():
    now, asked = 0.0, 0

    async def ask() -> Sight:
        nonlocal asked
        asked += 1
        return await same(ADMIN)

    sight = FreshSight(ask, clock=lambda: now)
    for now in (0.0, 1.9, 2.1, 3.9, 4.2):  # noqa: B007 -- the clock reads it
        assert await sight.now() is ADMIN
    assert asked == 3


async def test_ids_tell_nothing_of_what_others_do():
    hub = hub_with(row("a"))
    opened = stream(hub)
    ids = {(await anext(opened)).split(b"\n")[0]}
    for offset in range(11, 14):
        hub.take(offset, offset, b"theirs %d" % offset, row("x", org_id="org_b"))
        ids.add((await anext(opened)).split(b"\n")[1])
    # Of one length and sealed anew even where nothing came: they can be neither read nor compared.
    ids.add((await anext(opened)).split(b"\n")[1])
    assert (len(ids), len({len(each) for each in ids})) == (5, 1)
    assert EventIds(SAFE, "org_b").opened(told_id("10-1000")) == ""


async def test_a_beat_comes_by_the_clock_while_others_are_busy():
    hub = hub_with(row("a"))
    opened = stream(hub)
    await first(opened, 1)
    waiting = asyncio.ensure_future(anext(opened))
    for offset in range(11, 2000):
        hub.take(offset, offset, b"theirs %d" % offset, row("x", org_id="org_b"))
        await asyncio.sleep(0.001)
        if waiting.done():
            break
    assert (await waiting).startswith(b": still here")
    assert offset < 500


class Interrupted(Tail):
    """A topic of two records whose second does not arrive at the first attempt."""

    def __init__(self) -> None:
        super().__init__("kafka://127.0.0.1:1", COUNTED)
        self.read = 0
        self.attempts = 0
        self.stopped = 0

    async def start(self, *, after: int | None, back: int) -> tuple[int, int]:
        self.attempts += 1
        self.read = 0
        return 0, 2

    async def fetch(self) -> list[Any]:
        if self.read == 1 and self.attempts == 1:
            raise Unavailable("the broker does not answer")
        if self.read == 2:
            await asyncio.Event().wait()
        self.read += 1
        number = self.read - 1
        return [SimpleNamespace(offset=number, timestamp=number, key=b"%d" % number, value=row(f"c{number}"))]

    async def stop(self) -> None:
        self.stopped += 1


async def test_whoever_opens_after_a_failure_begins_as_if_nothing_had_been_read():
    hub = LiveHub("kafka://127.0.0.1:1")
    hub._tail = topic = Interrupted()
    with pytest.raises(Unavailable):
        await hub.open()
    assert (topic.stopped, hub.newest_id) == (1, "")
    await hub.open()
    try:
        entries = await hub.after(-1, wait_s=0)
        assert entries is not None
        assert [list(entry.changes or {}) for entry in entries] == [["org_a"], ["org_a"]]
    finally:
        await hub.stop()
