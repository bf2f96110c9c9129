"""Facts about limits: whatever their order and however often they come, the newest stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.limit_rows import record
from tokentide_aggregator.limit_rows import rows_of
from tokentide_common.limit_facts import LimitFact, encode_limit_fact, of_sortable

AT = datetime(2026, 11, 22, 11, tzinfo=UTC)
facts = st.builds(
    LimitFact,
    provider=st.sampled_from(["anthropic", "openai"]),
    kind=st.sampled_from(["requests", "unified_5h"]),
    org_id=st.just("org_1"),
    account_id=st.sampled_from(["", "acc"]),
    key_id=st.just("key_1"),
    observed_at=st.integers(0, 3).map(lambda n: AT + timedelta(microseconds=n * 400_000)),
    remaining=st.none() | st.integers(0, 9),
    status=st.sampled_from(["", "allowed"]),
)


def kept(said: list[LimitFact]) -> dict[tuple[str, ...], str]:
    rows, dead = rows_of(record(encode_limit_fact(fact)) for fact in said)
    assert dead == []
    found: list[dict[str, Any]] = [msgspec.json.decode(row) for row in rows]
    return {(r["org_id"], r["provider"], r["account"], r["model"], r["kind"]): r["latest"] for r in found}


@given(st.lists(facts, max_size=12), st.data())
def test_order_repeats_and_batches_change_nothing(said: list[LimitFact], data: st.DataObject) -> None:
    whole = kept(said)
    mixed = data.draw(st.permutations(said + said[: len(said) // 2]))
    cut = data.draw(st.integers(0, len(mixed)))
    first, second = kept(mixed[:cut]), kept(mixed[cut:])
    # In the table, too, the greatest text is what stays.
    assert {g: max(first.get(g, ""), second.get(g, "")) for g in first | second} == whole


@given(st.lists(facts, min_size=1, max_size=12))
def test_the_fact_that_stays_was_observed_last(said: list[LimitFact]) -> None:
    for gauge, text in kept(said).items():
        of_gauge = [
            f for f in said if (f.provider, f.account_id or f.key_id, f.kind) == (*gauge[1:3], gauge[4])
        ]
        assert of_sortable(text) in of_gauge
        assert of_sortable(text).observed_at == max(fact.observed_at for fact in of_gauge)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty_record"),
        (b"\xff{", "unreadable_record"),
        (b'{"provider":"x","kind":"requests","observed_at":"2026-11-22T11:00:00Z"}', "no_organization"),
        (
            b'{"provider":"x","kind":"requests","org_id":"o","observed_at":"2126-11-22T11:00:00Z"}',
            "timestamp_out_of_range",
        ),
    ],
)
def test_what_is_no_fact_is_a_dead_letter_and_stops_no_other(value: bytes | None, reason: str) -> None:
    good = LimitFact(provider="x", kind="requests", org_id="o", key_id="k", observed_at=AT)
    rows, dead = rows_of([record(value, 7), record(encode_limit_fact(good), 8)])
    assert [(letter.offset, letter.reason) for letter in dead] == [(7, reason)]
    assert len(rows) == 1
