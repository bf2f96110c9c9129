"""What a series adds, whatever the order, the repeats and the batches in which its points come."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import reduce

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_aggregator.activity_index import Known, index_row, known_of
from tokentide_aggregator.activity_ledger import ActivityLedger
from tokentide_aggregator.activity_rows import signed_rows
from tokentide_aggregator.activity_series import (
    MAX_STEPS,
    NOTHING,
    Series,
    amount_of,
    increments,
    joined,
    nano_of,
    series_of,
)
from tokentide_aggregator.fold import Group, Waiting
from tokentide_common.activity import ActivityFact
from tokentide_common.identity import call_hash

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
KEY = ("o", "s")
amounts = st.decimals(0, 10**6, places=3).map(lambda d: format(d, "f")) | st.sampled_from(
    ["0", "1", "2", "0.000000001", "999999999999999999.999999999"]
)


def fact(value: str = "1", minutes: float = 0, **fields: object) -> ActivityFact:
    return ActivityFact(
        **{
            "series_id": "s",
            "org_id": "o",
            "metric": "lines_of_code",
            "source": "otlp",
            "at": NOON + timedelta(minutes=minutes),
            "value": value,
            **fields,
        }
    )


@st.composite
def facts(draw: st.DrawFn) -> ActivityFact:
    fields = {name: draw(st.sampled_from(["", "a", "b"])) for name in ("user_id", "project", "model")}
    tags = draw(st.dictionaries(st.sampled_from("kl"), st.sampled_from(["", "1", "2"])))
    return fact(draw(amounts), draw(st.integers(0, 90)), tags=tags, **fields)


def state(of: list[ActivityFact]) -> Series:
    return reduce(joined, map(series_of, of), NOTHING)


def peaks(of: list[ActivityFact]) -> dict[int, Decimal]:
    """What each quarter adds, told another way: the rise of the highest value so far."""
    said: dict[int, Decimal] = {}
    for one in of:
        quarter = int(one.at.timestamp()) // 900
        said[quarter] = max(said.get(quarter, Decimal(0)), Decimal(one.value))
    before, rises = Decimal(0), {}
    for quarter in sorted(said):
        if said[quarter] > before:
            rises[quarter], before = said[quarter] - before, said[quarter]
    return rises


@given(st.lists(facts(), max_size=6), st.lists(facts(), max_size=6), st.lists(facts(), max_size=6))
def test_the_join_is_commutative_associative_and_idempotent(first, second, third):
    a, b, c = state(first), state(second), state(third)
    assert joined(a, b) == joined(b, a)
    assert joined(joined(a, b), c) == joined(a, joined(b, c))
    assert joined(a, a) == a
    assert joined(a, NOTHING) == a


@given(st.lists(facts(), max_size=8))
def test_quarters_add_the_rise_of_the_highest_value_and_all_together_the_highest(given_facts):
    added = {quarter: Decimal(amount_of(n)) for quarter, n in increments(state(given_facts)).items()}
    assert added == peaks(given_facts)
    assert sum(added.values()) == max((Decimal(f.value) for f in given_facts), default=Decimal(0))


@given(st.lists(facts(), max_size=8), st.lists(facts(), max_size=4))
def test_rows_move_exactly_what_a_state_adds(first, more):
    """Sums per label and quarter over all rows ever written are what the final state adds."""
    ledger: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    known = NOTHING
    for batch in (first, more):
        now = reduce(joined, map(series_of, batch), known)
        if now != known:
            back, rows = signed_rows(KEY, known, now)
            assert rows, "whoever changes adds something"
            for raw in (*back, *rows):
                row = json.loads(raw)
                value, sign, bucket = Decimal(row.pop("value")), row.pop("sign"), row.pop("bucket")
                assert value > 0
                ledger[json.dumps(row, sort_keys=True), bucket] += sign * value
        known = now
    final = state(first + more)
    assert {k: v for k, v in ledger.items() if v} == {
        (json.dumps(described(final), sort_keys=True), moment(quarter)): Decimal(amount_of(nano))
        for quarter, nano in increments(final).items()
    }


def described(series: Series) -> dict[str, object]:
    return {"org_id": "o", "series_id": "s", **series.labels, "tags": series.tags}


def moment(quarter: int) -> str:
    return datetime.fromtimestamp(quarter * 900, UTC).isoformat().replace("+00:00", "Z")


@given(st.lists(facts(), max_size=8), st.integers(1, 2**32 - 1))
def test_a_state_read_back_from_the_index_is_the_state(given_facts, version):
    known = Known(version, state(given_facts))
    assert known_of(index_row(b"0" * 16, known)) == known


@given(st.lists(facts(), min_size=1, max_size=10), st.randoms(use_true_random=False), st.integers(1, 5))
def test_any_order_with_repeats_in_any_batches_gives_the_same_state(given_facts, random, size):
    again = given_facts + random.choices(given_facts, k=3)
    random.shuffle(again)
    ledger, series = ActivityLedger(), call_hash(*KEY)
    known: dict[bytes, Known] = {}
    for start in range(0, len(again), size):
        batch = again[start : start + size]
        asked = Group(KEY, start, batch, {})
        block = ledger.build({series: asked}, known)
        for change in block.changes:
            known[series] = ledger.recall(ledger.keep(change), asked)
    assert known.get(series, Known(0, NOTHING)).series == state(given_facts)


@given(amounts)
def test_an_amount_is_exact_there_and_back(text):
    assert Decimal(amount_of(nano_of(text))) == Decimal(text)


def test_a_point_that_comes_late_moves_its_part_into_its_own_quarter():
    on_time = state([fact("10", 0), fact("25", 30)])
    assert list(increments(on_time).values()) == [nano_of("10"), nano_of("15")]
    late = joined(on_time, series_of(fact("18", 20)))
    back, rows = (list(map(msgspec.json.decode, some)) for some in signed_rows(KEY, on_time, late))
    assert [(row["bucket"][11:16], row["value"], row["sign"]) for row in back] == [("12:30", "8", -1)]
    assert [(row["bucket"][11:16], row["value"], row["sign"]) for row in rows] == [("12:15", "8", 1)]


def test_a_process_that_started_anew_is_a_series_of_its_own_and_adds_to_the_one_before():
    before = [fact("100", 0, series_id="started 12:00"), fact("7", 20, series_id="started 12:20")]
    assert sum(sum(increments(state([one])).values()) for one in before) == nano_of("107")


def test_each_waiting_fact_gets_the_verdict_of_its_own_effect():
    said = [fact("5"), fact("5"), fact("9"), fact("3"), fact("0")]
    waiting = {n: Waiting(b"me", "b", n) for n in range(len(said))}
    block = ActivityLedger().build({call_hash(*KEY): Group(KEY, 0, said, waiting)}, {})
    assert [v.verdict for v in block.verdicts] == [
        "counted",
        "duplicate",
        "upgraded",
        "duplicate",
        "duplicate",
    ]
    assert len(block.changes) == 1
    assert block.days == set()


def test_a_series_that_rises_for_too_long_is_refused_and_keeps_what_it_had():
    rising = [fact(str(n + 1), 15 * n) for n in range(MAX_STEPS + 2)]
    group = Group(KEY, 7, rising, {MAX_STEPS: Waiting(b"me", "b", 0)})
    block = ActivityLedger().build({call_hash(*KEY): group}, {})
    assert [(letter.offset, letter.reason) for letter in block.dead] == [(7, "series_too_long")] * 2
    assert block.dead[0].waiting == Waiting(b"me", "b", 0)
    assert known_of(block.changes[0].index).series == state(rising[:MAX_STEPS])


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (None, "empty_record"),
        (b"{", "unreadable_record"),
        (b'{"series_id":' + b"[" * 100_000, "unreadable_record"),
        (b'{"unknown":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "unreadable_record"),
        (msgspec.json.encode(fact(org_id="")), "no_organization"),
        (msgspec.json.encode(fact(value="-1")), "unreadable_record"),
        (msgspec.json.encode(fact(at=datetime(2100, 1, 1, tzinfo=UTC))), "timestamp_out_of_range"),
        (msgspec.json.encode(fact(at=datetime(2019, 1, 1, tzinfo=UTC))), "timestamp_out_of_range"),
    ],
)
def test_what_is_no_fact_becomes_a_dead_letter(record, reason):
    class Consumed:
        offset, timestamp, key, value, headers = 3, 0, b"s", record, ()

    folded = ActivityLedger().fold([Consumed()])
    assert [(letter.offset, letter.reason) for letter in folded.dead] == [(3, reason)]
    assert folded.groups == {}
