"""Tags are bounded per organisation at every door, and what is left out never changes what is counted."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import permutations

import pytest
from prometheus_client import CollectorRegistry

from tokentide_common.accounts import KeyRecord
from tokentide_common.events import UsageEvent, decode_wire_event
from tokentide_common.merge import add, merged
from tokentide_common.metrics import Metrics
from tokentide_common.tag_bound import MAX_NAMES, TagBound
from tokentide_ingest.batch import read_batch

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY_S = 86_400.0


class Clock:
    def __init__(self) -> None:
        self.now = 5.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bound(metrics: Metrics, clock: Clock) -> TagBound:
    return TagBound(metrics, source="otlp", values=3, clock=clock)


def dropped(metrics: Metrics) -> float:
    name = 'tokentide_tag_values_dropped_total{source="otlp"} '
    return sum(float(line.split()[-1]) for line in metrics.render().decode().splitlines() if name in line)


def test_values_beyond_the_bound_are_left_out_and_the_known_ones_stay(
    bound: TagBound, metrics: Metrics
) -> None:
    said = [bound.kept("o", {"run": str(n), "env": "prod"}) for n in range(10)]
    assert [tags.get("run") for tags in said] == ["0", "1", "2", *[None] * 7]
    assert all(tags["env"] == "prod" for tags in said)
    assert dropped(metrics) == 7
    assert bound.kept("o", {"run": "1"}) == {"run": "1"}


def test_organisations_and_tags_have_bounds_of_their_own(bound: TagBound) -> None:
    for n in range(10):
        bound.kept("loud", {"run": str(n)})
    assert bound.kept("loud", {"other": "9"}) == {"other": "9"}
    assert bound.kept("quiet", {"run": "9"}) == {"run": "9"}


def test_the_day_slides_what_is_still_said_stays_and_what_is_not_makes_room(
    bound: TagBound, clock: Clock
) -> None:
    for n in range(3):
        bound.kept("o", {"run": str(n)})
    clock.now += DAY_S / 2
    bound.kept("o", {"run": "0"})
    clock.now += DAY_S / 2
    assert bound.kept("o", {"run": "new"}) == {"run": "new"}
    assert bound.kept("o", {"run": "0"}) == {"run": "0"}
    assert bound.kept("o", {"run": "newer"}) == {"run": "newer"}
    assert bound.kept("o", {"run": "newest"}) == {}


def test_ever_new_names_are_bounded_too_with_all_that_is_remembered_of_them(
    bound: TagBound, clock: Clock
) -> None:
    kept = [bound.kept("o", {f"name{n}": "x"}) for n in range(MAX_NAMES + 10)]
    assert sum(map(len, kept)) == MAX_NAMES
    clock.now += DAY_S
    assert bound.kept("o", {"late": "x"}) == {"late": "x"}


def test_whoever_looks_is_told_once_a_day_and_of_the_tag_only(
    bound: TagBound, clock: Clock, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    for n in range(10):
        bound.kept("o", {"run": f"secret{n}"})
    told = caplog.text + "".join(capfd.readouterr())
    assert told.count("tag_values_dropped") == 1
    assert "run" in told
    assert "secret" not in told


def test_a_batch_is_counted_without_the_tags_that_are_too_many(bound: TagBound) -> None:
    events = [
        {"call_id": f"c{n}", "source": "api", "occurred_at": "2026-11-22T11:00:00Z", "tags": {"run": str(n)}}
        for n in range(5)
    ]
    batch = read_batch(
        json.dumps({"events": events}).encode(), KeyRecord(key_id="k", org_id="o", kind="a"), NOW, bound.kept
    )
    told = [decode_wire_event(record.value or b"") for record in batch.records]
    assert [event.tags for event in told] == [{"run": "0"}, {"run": "1"}, {"run": "2"}, {}, {}]
    assert batch.rejected == []


def test_a_tag_that_one_process_left_out_and_another_did_not_is_known_in_whatever_order() -> None:
    said = [
        UsageEvent(call_id="c", source=source, occurred_at=NOW, tags=tags)
        for source, tags in (
            ("otlp", {"run": "7"}),
            ("otlp", {}),
            ("proxy", {}),
            ("cli", {"run": "8"}),
        )
    ]
    for order in permutations(said):
        state = {}
        for event in order:
            state = add(state, event)
        assert merged(state)[0].tags == {"run": "7"}
