"""A call under the id of its answer, which a span knows, and of its request, which log and proxy know."""

from __future__ import annotations

import asyncio
import itertools
import threading
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.counting import live_rows, rollup_sums
from infra.linked import Linked, assert_true_anyhow
from infra.observations import NOON, observations
from tokentide_aggregator.links import Links
from tokentide_common.events import UsageEvent
from tokentide_common.merge import canonical
from tokentide_common.store import Store

NUMBERS = itertools.count()
LONG = "chatcmpl-BxG1mKq0aZy7Yt5eUe2rT9wQ"
# Two requests of one message, one of another, a gateway's answer; and what only spans tell of.
ANSWERED = {"req_0": "msg_0", "req_1": "msg_0", "req_5": "msg_5", f"s:{LONG}": LONG}
BY_ANSWER = ("msg_0", "msg_5", "msg_9", f":{LONG}")


@st.composite
def told(draw: st.DrawFn) -> UsageEvent:
    """An observation of a call by a source that knows its request, or of one by a source that does not."""
    call_id = draw(st.sampled_from([*ANSWERED, *BY_ANSWER]))
    event = draw(observations(call_id=call_id))
    return canonical(
        msgspec.structs.replace(
            event,
            source="otlp" if event.source == "link" else event.source,
            message_id=draw(st.sampled_from(["", ANSWERED[call_id]])) if call_id in ANSWERED else "",
            session_id="s",
            session_started_at=None,
            output_tokens=max(1, event.output_tokens),
        )
    )


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(events=st.lists(told(), min_size=2, max_size=10), random=st.randoms(use_true_random=False))
def test_any_order_splitting_repetition_and_crash_counts_each_request_once_with_what_spans_tell(
    with_store, tmp_path, events, random
):
    again = events + random.choices(events, k=len(events) // 2)
    random.shuffle(again)

    with_store(lambda store: assert_true_anyhow(store, tmp_path, f"o{next(NUMBERS)}", again, random))


def said(call_id: str, **fields: Any) -> UsageEvent:
    fields = {"source": "cli", "org_id": "o", "occurred_at": NOON, "output_tokens": 5, **fields}
    return canonical(UsageEvent(call_id=call_id, **fields))


def span(call_id: str, **fields: Any) -> UsageEvent:
    return said(call_id, source="otlp", duration_ms=900, input_tokens=7, **fields)


async def counted(store: Store) -> dict[str, dict[str, Any]]:
    return {row["call_id"]: row for row in await live_rows(store, "o") if not row["same_as"]}


@pytest.mark.parametrize("span_first", [True, False])
async def test_a_call_of_a_span_is_the_request_that_log_and_proxy_know(store, tmp_path, span_first):
    """The clocks of the two differ by hours; other calls of the time have nothing to do with it."""
    events = [
        span("msg_1", message_id="msg_1"),
        said("req_1", message_id="msg_1", occurred_at=NOON + timedelta(hours=20), project="p"),
    ]
    linked = Linked(store, tmp_path, "t")
    linked.append([span("msg_2"), said("req_3", message_id="msg_3")])
    linked.append(events if span_first else events[::-1])
    await linked.count_all(1)
    calls = await counted(store)
    assert calls.keys() == {"req_1", "req_3", "msg_2"}
    assert (calls["req_1"]["sources"], calls["req_1"]["project"]) == (["cli", "otlp"], "p")
    assert (calls["req_1"]["duration_ms"], calls["req_1"]["input_tokens"]) == (900, 7)
    linked.close()


@pytest.mark.parametrize("span_first", [True, False])
async def test_requests_that_share_a_message_stay_several_whatever_a_span_tells_of_it(
    store, tmp_path, span_first
):
    requests = [said(f"req_{n}", message_id="msg_1") for n in range(3)]
    linked = Linked(store, tmp_path, "t")
    linked.append([span("msg_1"), *requests] if span_first else [*requests, span("msg_1")])
    await linked.count_all(1)
    # What the span tells later still reaches all of them.
    linked.append([span("msg_1", ttft_ms=40)])
    await linked.count_all(1)
    calls = await counted(store)
    assert {call: row["ttft_ms"] for call, row in calls.items()} == {"req_0": 40, "req_1": 40, "req_2": 40}
    linked.close()


async def test_a_chain_of_ids_ends_at_the_request_whatever_came_first(store, tmp_path):
    events = [
        span("x_1", same_as="msg_1", ttft_ms=40),
        said("msg_1", message_id="msg_1", git_branch="b"),
        said("req_1", message_id="msg_1", source="proxy"),
    ]
    orders = {f"o{n}": order for n, order in enumerate(itertools.permutations(events))}
    linked = Linked(store, tmp_path, "t")
    for step in zip(*orders.values(), strict=True):
        linked.append(msgspec.structs.replace(e, org_id=org) for org, e in zip(orders, step, strict=True))
        await linked.count_all()
    for org in orders:
        (call,) = [row for row in await live_rows(store, org) if not row["same_as"]]
        assert (call["call_id"], call["sources"]) == ("req_1", ["cli", "otlp", "proxy"])
        assert (call["ttft_ms"], call["git_branch"]) == (40, "b")
        assert (await rollup_sums(store, org))["usage_day"]["calls"] == 1
    linked.close()


async def test_a_message_of_another_organisation_is_another_call(store, tmp_path):
    linked = Linked(store, tmp_path, "t")
    linked.append([span("msg_1"), said("req_1", message_id="msg_1", org_id="other")])
    await linked.count_all(1)
    assert (await rollup_sums(store, "o"))["usage_day"]["calls"] == 1
    assert (await rollup_sums(store, "other"))["usage_day"]["calls"] == 1
    linked.close()


async def test_two_aggregators_that_meet_span_and_request_at_the_same_time_do_not_miss_the_link(
    store, tmp_path
):
    linked = Linked(store, tmp_path, "t")
    logging, telling = linked.counters
    logging.append([said("req_1", message_id="msg_1")])
    telling.append([span("msg_1")])
    both_stored = threading.Barrier(2, timeout=60)
    for counter in linked.counters:
        linked.restart(counter, lambda point: both_stored.wait() if point == "after_seen" else None)
    turns = [asyncio.to_thread(asyncio.run, linked.turn(counter, 1)) for counter in linked.counters]
    await asyncio.gather(*turns)
    for counter in linked.counters:
        linked.restart(counter)
    await linked.count_all()
    assert (await counted(store)).keys() == {"req_1"}
    linked.close()


async def test_what_a_forgetting_broker_lost_is_told_again_at_the_next_start_and_only_once(store, tmp_path):
    linked = Linked(store, tmp_path, "t")
    linked.append([said("req_1", message_id="msg_1"), span("msg_1"), span(f":{LONG}")])
    linked.append([said(f"s:{LONG}", message_id=LONG)])
    while waiting := linked.waiting:
        assert (await waiting[0].count(5)).end
    assert len(await counted(store)) == 4
    for concluded in await Links(store).repair():
        linked.send(concluded.records)
    await linked.count_all()
    assert (await counted(store)).keys() == {"req_1", f"s:{LONG}"}
    assert not any(concluded.records for concluded in await Links(store).repair())
    linked.close()
