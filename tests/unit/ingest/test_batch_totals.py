"""Session totals in a batch: each judged on its own, stamped like events, and turned into facts."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tokentide_common.accounts import KeyRecord
from tokentide_common.activity import ActivityFact, decode_fact
from tokentide_common.errors import InvalidRequest, TooLarge
from tokentide_ingest.batch import MAX_EVENTS, Batch, read_batch

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
KEY = KeyRecord(key_id="key_1", org_id="org_1", kind="m", user_id="u-key", team="t-key")
CANARY = "Canary-7f3a secret prompt"
USED = {"input_tokens": 6, "output_tokens": 89, "cache_read_tokens": 11499, "cost_usd": "0.0050559"}


def totals(**fields: Any) -> dict[str, Any]:
    return {
        "session_id": "s",
        "at": "2026-11-22T11:00:00Z",
        "started_at": "2026-11-22T10:00:00Z",
        "client": "claude-code",
        "project": "tide",
        "models": {"m": USED},
    } | fields


def judged(*said: Any, **fields: Any) -> Batch:
    body = {"machine": {"id": "mac-1"}, "events": [], "totals": list(said)} | fields
    return read_batch(json.dumps(body).encode(), KEY, NOW)


def facts(batch: Batch) -> list[ActivityFact]:
    return [decode_fact(record.value or b"") for record in batch.facts]


def test_a_batch_may_have_totals_only_and_they_become_facts_of_each_model_and_kind() -> None:
    batch = judged(totals())
    assert (batch.records, batch.rejected, batch.rejected_totals) == ([], [], [])
    assert [(fact.metric, fact.kind, fact.model, fact.value) for fact in facts(batch)] == [
        ("session_tokens", "input", "m", "6"),
        ("session_tokens", "cache_read", "m", "11499"),
        ("session_tokens", "output", "m", "89"),
        ("session_cost_usd", "", "m", "0.0050559"),
    ]


def test_facts_carry_the_scope_of_the_key_and_are_keyed_by_their_series() -> None:
    batch = judged(totals())
    for record, fact in zip(batch.facts, facts(batch), strict=True):
        assert record.key == fact.series_id.encode()
        assert (fact.org_id, fact.key_id, fact.machine_id) == ("org_1", "key_1", "mac-1")
        assert (fact.user_id, fact.team, fact.project) == ("u-key", "t-key", "tide")
        assert (fact.session_id, fact.client, fact.source) == ("s", "claude-code", "cli")
        assert fact.at == datetime(2026, 11, 22, 11, tzinfo=UTC)


def series(**fields: Any) -> set[str]:
    return {fact.series_id for fact in facts(judged(totals(**fields)))}


def test_later_totals_of_a_session_go_on_in_its_series_from_whatever_machine() -> None:
    later = {"m": {**USED, "input_tokens": 7}}
    assert series() == series(at="2026-11-22T11:30:00Z", models=later)
    assert len(series()) == 4


@pytest.mark.parametrize(
    "fields",
    [{"session_id": "t"}, {"started_at": "2026-11-22T10:00:01Z"}, {"client": "c"}, {"models": {"n": USED}}],
    ids=lambda fields: next(iter(fields)),
)
def test_another_session_start_client_or_model_is_another_series(fields: dict[str, Any]) -> None:
    assert series() & series(**fields) == set()


def test_a_fork_names_the_session_that_its_totals_go_on_from() -> None:
    assert {fact.tags["forked_from"] for fact in facts(judged(totals(forked_from="parent")))} == {"parent"}


INVALID: dict[str, Any] = {
    "not an object": 7,
    "no session": totals(session_id=""),
    "no models": {"session_id": "s", "at": "2026-11-22T11:00:00Z"},
    "unknown field": totals(prompt=CANARY),
    "unknown field of a model": totals(models={"m": {"prompt": CANARY}}),
    "model without a name": totals(models={"": USED}),
    "too many models": totals(models={str(n): USED for n in range(65)}),
    "negative tokens": totals(models={"m": {"input_tokens": -1}}),
    "2^63 tokens": totals(models={"m": {"input_tokens": 2**63}}),
    "cost with a sign": totals(models={"m": {"cost_usd": "-1"}}),
    "cost with an exponent": totals(models={"m": {"cost_usd": "1e9"}}),
    "cost as a number": totals(models={"m": {"cost_usd": 1.5}}),
    "year 1970": totals(at="1970-01-01T00:00:00Z"),
    "time without a zone": totals(at="2026-11-22T11:00:00"),
    "began in the year 9999": totals(started_at="9999-12-31T23:59:59Z"),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_totals_are_rejected_by_index_and_their_neighbours_go_through(name: str) -> None:
    batch = judged(totals(session_id="a"), INVALID[name], totals(session_id="b"))
    assert {fact.session_id for fact in facts(batch)} == {"a", "b"}
    [rejection] = batch.rejected_totals
    assert rejection.index == 1
    assert rejection.code in {"invalid_event", "timestamp_out_of_range"}
    assert CANARY not in rejection.detail


def test_invalid_totals_take_no_event_with_them() -> None:
    event = {"call_id": "req_1", "source": "cli", "occurred_at": "2026-11-22T11:00:00Z"}
    batch = judged(7, events=[event])
    assert (len(batch.records), len(batch.rejected), len(batch.rejected_totals)) == (1, 0, 1)


def test_a_batch_has_at_most_a_thousand_totals() -> None:
    assert len(judged(*[totals()] * MAX_EVENTS).facts) == 4 * MAX_EVENTS
    with pytest.raises(TooLarge):
        judged(*[totals()] * (MAX_EVENTS + 1))


def test_totals_that_are_no_list_make_the_body_unreadable() -> None:
    with pytest.raises(InvalidRequest) as caught:
        judged(totals=CANARY)
    assert caught.value.stable_code == "malformed_body"
    assert CANARY not in caught.value.detail
