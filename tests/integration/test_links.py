"""One call under two ids, people, calls without ids: the same ledger and rollups, whatever came first."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.counting import live_rows, rollup_sums
from infra.linked import Linked, assert_true
from infra.manifests import Totals, manifest, session_dir
from infra.observations import NOON, observations
from infra.otlp_bodies import DATA_DIR, captures
from tokentide.collecting import Collector
from tokentide.log_files import session_files
from tokentide.push_state import PushState
from tokentide_aggregator.fold import Waiting
from tokentide_aggregator.links import Links
from tokentide_common.accounts import KeyRecord
from tokentide_common.events import UsageEvent, decode_wire_event
from tokentide_common.merge import canonical
from tokentide_common.store import Store, rows
from tokentide_ingest.otlp.export import read_export

FEW = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
NUMBERS = itertools.count()
NOW = datetime(2026, 11, 22, 18, tzinfo=UTC)
# Two sessions, each with calls under ids of every kind.
IDS = {"s": ["req_0", "req_1", "x_0", "x_1", "m_0"], "t": ["req_5", "x_5"]}


@st.composite
def told(draw: st.DrawFn) -> UsageEvent:
    """An observation of a call, that may say which other call it is and who made it."""
    session = draw(st.sampled_from(sorted(IDS)))
    call_id, other = (draw(st.sampled_from(IDS[session])) for _ in range(2))
    event = draw(observations(call_id=call_id))
    same_as = other if draw(st.booleans()) else ""
    source = "otlp" if same_as else "cli" if event.source == "link" else event.source
    return canonical(
        msgspec.structs.replace(
            event,
            source=source,
            same_as=same_as,
            session_id=session,
            session_started_at=None,
            output_tokens=max(1, event.output_tokens),
        )
    )


@FEW
@given(events=st.lists(told(), min_size=1, max_size=10), random=st.randoms(use_true_random=False))
def test_any_order_splitting_repetition_and_crash_gives_the_same_calls_and_people(
    with_store, tmp_path, events, random
):
    again = events + random.choices(events, k=len(events) // 2)
    random.shuffle(again)

    async def work(store: Store) -> None:
        org = f"o{next(NUMBERS)}"
        mixed = Linked(store, tmp_path, org)

        async def rollups_equal_the_ledger() -> None:
            said = await rollup_sums(store, org)
            assert said == dict.fromkeys(said, said["ledger"])

        mine = [msgspec.structs.replace(e, org_id=org) for e in again]
        mixed.append(mine)
        await mixed.count_somehow(random, rollups_equal_the_ledger)
        await assert_true(store, org, mine, mixed.counters[0].price)
        mixed.close()

    with_store(work)


def said(call_id: str, **fields: Any) -> UsageEvent:
    fields = {"source": "otlp", "org_id": "o", "session_id": "s", "occurred_at": NOON, **fields}
    return canonical(UsageEvent(call_id=call_id, **fields))


KNOTS: dict[str, list[UsageEvent]] = {
    "a circle": [said("a", same_as="b"), said("b", same_as="a"), said("b", source="cli", output_tokens=9)],
    "a longer circle": [said("a", same_as="b"), said("b", same_as="c"), said("c", same_as="a")],
    "itself": [said("a", same_as="a", output_tokens=3)],
    "a chain": [said("x_2", same_as="x_1"), said("x_1", same_as="req_1")],
    "a chain stated upwards": [said("req_1", same_as="x_1"), said("x_1", same_as="x_2")],
    "two calls at once": [said("x_1", same_as="req_1"), said("x_1", same_as="req_2")],
    "two calls by two sources": [said("x_1", same_as="req_1"), said("x_1", same_as="req_2", source="proxy")],
    "one call by three": [said(c, same_as="x_9") for c in ("m_0", "req_1", "x_1")],
    "an unknown one between": [said("x_1", same_as="x_0"), said("x_2", same_as="x_0")],
}


@pytest.mark.parametrize("knot", KNOTS)
async def test_however_calls_are_said_to_be_each_other_they_are_one_and_none_is_lost(store, tmp_path, knot):
    ids = sorted({e.call_id for e in KNOTS[knot]} | {e.same_as for e in KNOTS[knot]} - {"x_0", "x_9", ""})
    own = [said(call_id, output_tokens=n + 1, source="cli") for n, call_id in enumerate(ids)]
    for seed in range(3):
        order = random.Random(seed)
        events = [msgspec.structs.replace(e, org_id=f"o{seed}") for e in [*KNOTS[knot], *own]]
        order.shuffle(events)
        linked = Linked(store, tmp_path, f"{knot}-{seed}")
        linked.append(events)
        await linked.count_somehow(order)
        await assert_true(store, f"o{seed}", events, linked.counters[0].price)
        assert (await rollup_sums(store, f"o{seed}"))["usage_day"]["calls"] == 1
        linked.close()


def key(**fields: str) -> KeyRecord:
    return KeyRecord(key_id="k", org_id="o", kind="m", **fields)


def log_of(run: str, tmp_path: Path) -> list[UsageEvent]:
    """What the log of a captured run says, as the door of a machine's key lets it in."""
    collector = Collector(PushState(tmp_path / f"{run}.json"))
    batches = collector.batches(session_files([session_dir(run)]))
    events = [event for batch in batches for event in batch.events]
    return [msgspec.structs.replace(e, org_id="o", user_id="machine 7", observed_at=NOW) for e in events]


def telemetry_of(client: str, run: str, who: KeyRecord) -> list[UsageEvent]:
    """What the telemetry of a captured run says, as the door lets it in."""
    return [
        decode_wire_event(record.value or b"")
        for c in captures()
        if (c.client, c.run) == (client, run) and c.signal == "logs"
        for record in read_export("logs", c.body, c.encoding, who, now=NOW, tags={}).events
    ]


def interleaved(first: list[UsageEvent], second: list[UsageEvent]) -> list[UsageEvent]:
    pairs = itertools.zip_longest(first, second)
    return [event for pair in pairs for event in pair if event is not None]


ORDERS: dict[str, Callable[[list[UsageEvent], list[UsageEvent]], list[UsageEvent]]] = {
    "log first": lambda log, telemetry: [*log, *telemetry],
    "telemetry first": lambda log, telemetry: [*telemetry, *log],
    "interleaved": interleaved,
    "twice": lambda log, telemetry: [*log, *telemetry, *log, *telemetry],
    "backwards": lambda log, telemetry: [*log, *telemetry][::-1],
}


async def totals(store: Store) -> dict[str, Totals]:
    columns = ", ".join(f"sum({name}) AS {name}" for name in Totals._fields)
    found = await rows(store, f"SELECT model, {columns} FROM usage_day GROUP BY model HAVING calls > 0")
    return {row.pop("model"): Totals(**row) for row in found}


@pytest.mark.parametrize("size", [1, 100])
@pytest.mark.parametrize("order", ORDERS)
async def test_an_old_client_without_request_ids_is_counted_once_by_log_and_telemetry(
    store, tmp_path, order, size
):
    """Partial lines of the log do not fit; in between the call may stand twice, in the end it stands once."""
    run = "24-old-1.0.128-slow"
    linked = Linked(store, tmp_path, "t")
    linked.append(ORDERS[order](log_of(run, tmp_path), telemetry_of("claude-code", run, key())))
    await linked.count_all(size)
    truth = manifest(run)["totals_by_model_completed"]
    said = await totals(store)
    assert {m: t.calls for m, t in said.items()} == {m: t["requests"] for m, t in truth.items()}
    for model, total in said.items():
        true = truth[model]
        assert total.output_tokens == true["output_tokens"]
        assert total.input_tokens == true["input_tokens"]
        assert total.cache_read_tokens == true["cache_read_input_tokens"]
        written = total.cache_write_5m_tokens + total.cache_write_1h_tokens
        assert written == true["cache_creation_input_tokens"]
    counted = [row for row in await live_rows(store, "o") if not row["same_as"]]
    both = [row for row in counted if row["sources"] == ["cli", "otlp"]]
    assert len(both) == 2, "what the log knows has what telemetry knows, under the provider's id"
    assert all(row["call_id"].startswith("req_") and row["duration_ms"] for row in both)
    linked.close()


def proxied_codex(run: str) -> list[UsageEvent]:
    """What a proxy saw of a captured run of Codex, which tells it the session in a header."""
    said = json.loads((DATA_DIR / "codex" / run / "manifest.json").read_text())
    (session,) = {e.session_id for e in telemetry_of("codex", run, key())}
    return [
        UsageEvent(
            call_id=request["response_id"],
            source="proxy",
            org_id="o",
            client="codex",
            session_id=session,
            request_id=request["request_id"],
            occurred_at=datetime.fromtimestamp(request["t"], UTC),
            observed_at=datetime.fromtimestamp(request["t"], UTC),
            model=request["model"],
            duration_ms=60,
            input_tokens=request["usage"]["input_tokens"]
            - request["usage"]["input_tokens_details"]["cached_tokens"],
            cache_read_tokens=request["usage"]["input_tokens_details"]["cached_tokens"],
            output_tokens=request["usage"]["output_tokens"],
        )
        for request in said["upstream_requests"]
        if request.get("usage")
    ]


@pytest.mark.parametrize("size", [1, 100])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("run", ["01-exec-json", "02-resume-protobuf"])
async def test_codex_is_counted_once_by_telemetry_and_proxy(store, tmp_path, run, order, size):
    through = proxied_codex(run)
    linked = Linked(store, tmp_path, "t")
    linked.append(ORDERS[order](through, telemetry_of("codex", run, key())))
    await linked.count_all(size)
    said = await totals(store)
    assert (said["gpt-5-codex"].calls, said["gpt-5-codex"].output_tokens) == (
        len(through),
        sum(e.output_tokens for e in through),
    )
    counted = [row for row in await live_rows(store, "o") if not row["same_as"]]
    assert {row["call_id"] for row in counted} == {e.call_id for e in through}
    assert {tuple(row["sources"]) for row in counted} == {("otlp", "proxy")}
    linked.close()


def proxied(run: str) -> list[UsageEvent]:
    """What a proxy saw of a captured run, as the door of its key lets it in."""
    said = manifest(run)
    return [
        UsageEvent(
            call_id=request["request_id"],
            source="proxy",
            org_id="o",
            client="claude-code",
            session_id=said["session_ids"][0],
            request_id=request["request_id"],
            occurred_at=datetime.fromtimestamp(request["t"], UTC),
            observed_at=datetime.fromtimestamp(request["t"], UTC),
            model=request["model"],
            input_tokens=request["usage"]["input_tokens"],
            cache_read_tokens=request["usage"]["cache_read_input_tokens"],
            cache_write_tokens=request["usage"]["cache_creation_input_tokens"],
            output_tokens=request["usage"]["output_tokens"],
        )
        for request in said["upstream_requests"]
    ]


@pytest.mark.parametrize("size", [1, 100])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("with_log", [False, True])
async def test_an_old_client_without_request_ids_is_counted_once_through_the_proxy_too(
    store, tmp_path, with_log, order, size
):
    run = "24-old-1.0.128-slow"
    named = [*proxied(run), *(log_of(run, tmp_path) if with_log else [])]
    linked = Linked(store, tmp_path, "t")
    linked.append(ORDERS[order](named, telemetry_of("claude-code", run, key())))
    await linked.count_all(size)
    truth = manifest(run)["totals_by_model_completed"]
    said = await totals(store)
    assert {model: (t.calls, t.output_tokens) for model, t in said.items()} == {
        model: (t["requests"], t["output_tokens"]) for model, t in truth.items()
    }
    counted = [row for row in await live_rows(store, "o") if not row["same_as"]]
    assert all({"otlp", "proxy"} <= set(row["sources"]) for row in counted)
    linked.close()


async def test_an_alias_whose_call_is_lost_counts_as_nothing_whatever_person_its_key_adds(store, tmp_path):
    who = key(user_id="zoe", user_email="zoe@x.io")
    alone = [e for e in telemetry_of("gemini-cli", "01-prompt-http", who) if e.same_as]
    linked = Linked(store, tmp_path, "t")
    linked.append([*alone, *alone])
    await linked.count_all(1)
    assert alone
    assert [row for row in await live_rows(store, "o") if not row["same_as"]] == []
    linked.close()


async def test_gemini_calls_are_counted_under_the_id_of_the_provider(store, tmp_path):
    events = telemetry_of("gemini-cli", "01-prompt-http", key())
    linked = Linked(store, tmp_path, "t")
    linked.append([*events[::-1], *events])
    await linked.count_all(3)
    truth = json.loads((DATA_DIR / "gemini-cli" / "01-prompt-http" / "manifest.json").read_text())
    ids = {request["response_id"] for request in truth["upstream_requests"]}
    counted = {row["call_id"] for row in await live_rows(store, "o") if not row["same_as"]}
    assert ids <= counted
    assert (await rollup_sums(store, "o"))["usage_15m"]["calls"] == len(truth["upstream_requests"])
    linked.close()


@pytest.mark.parametrize("order", ORDERS)
async def test_a_call_that_telemetry_did_not_see_is_its_person_s_whichever_came_first(store, tmp_path, order):
    """The machine's key says only which machine; some calls of the session never reach telemetry."""
    run = "25-oauth-account"
    telemetry = telemetry_of("claude-code", run, key())
    (email,) = {e.user_email for e in telemetry}
    log = [msgspec.structs.replace(e, call_id=f"req_unseen_{n}") for n, e in enumerate(log_of(run, tmp_path))]
    linked = Linked(store, tmp_path, "t")
    linked.append(ORDERS[order](log, telemetry))
    await linked.count_all(2)
    counted = await live_rows(store, "o")
    assert len(counted) > len(telemetry)
    assert {(row["user_email"], row["user_id"]) for row in counted} == {(email, email)}
    assert {tuple(row["sources"]) for row in counted} == {("cli",), ("otlp",)}
    people = await rows(
        store, "SELECT user_id, sum(calls) AS n FROM usage_day_person GROUP BY 1 HAVING n > 0"
    )
    assert people == [{"user_id": email, "n": len(counted)}]
    linked.close()


async def test_who_waits_for_a_call_under_another_id_is_answered_when_that_is_counted(store, tmp_path):
    linked = Linked(store, tmp_path, "t", partitions=1)
    (counter,) = linked.counters
    sender = (("reply-to", b"me"), ("batch", b"b"), ("index", b"7"))
    said = {"source": "otlp", "org_id": "o", "occurred_at": NOON, "output_tokens": 5}
    counter.append([UsageEvent(call_id="x_1", same_as="req_1", **said)], headers=sender)  # type: ignore[arg-type]
    first = await linked.turn(counter, 1)
    assert first.block.verdicts == []
    second = await linked.turn(counter, 1)
    assert [(v.waiting, v.verdict) for v in second.block.verdicts] == [(Waiting(b"me", "b", 7), "counted")]
    linked.close()


async def test_what_a_forgetting_broker_lost_is_concluded_again_at_the_next_start(store, tmp_path):
    """Calls and facts are stored, the process is killed, and what it had published is gone."""
    run = "24-old-1.0.128-slow"
    linked = Linked(store, tmp_path, "t")
    linked.append([*log_of(run, tmp_path), *telemetry_of("claude-code", run, key())])
    while waiting := linked.waiting:
        outcome = await waiting[0].count(5)
        assert outcome.end
    assert sum(t.calls for t in (await totals(store)).values()) > 4
    for concluded in await Links(store).repair():
        linked.send(concluded.records)
    await linked.count_all()
    assert sum(t.calls for t in (await totals(store)).values()) == 4
    linked.close()
