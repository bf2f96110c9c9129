"""What has ended is taken down soon, and none is forgotten."""

from __future__ import annotations

import gzip

import pytest

from infra.waiting import until
from tokentide_common.events import UsageEvent
from tokentide_common.key_directory import KeyRecord
from tokentide_common.merge import add, merged
from tokentide_common.metrics import Metrics
from tokentide_proxy.exchange import Attribution, Headers, Observer
from tokentide_proxy.exchanges import BrokeOff, Exchange
from tokentide_proxy.recorder import Recorder
from tokentide_proxy.routing import Routes
from tokentide_proxy.upstream_table import upstreams
from tokentide_proxy.whom import Whom

ROUTES = Routes(upstreams(()))
ANSWER = b'{"id":"msg_01","model":"claude","stop_reason":"end_turn","usage":{"output_tokens":7}}'


class Events(list[UsageEvent]):
    def offer(self, event: UsageEvent) -> None:
        self.append(event)

    def offer_limits(self, headers: Headers, seen: Observer) -> None:
        raise AssertionError("none was told")


def exchange(
    *,
    complete: bool = True,
    target: bytes = b"/v1/messages",
    answer: bytes = ANSWER,
    content_type: bytes = b"application/json",
    encoding: bytes = b"",
    method: bytes = b"POST",
) -> Exchange:
    """One that has had its answer, and whose answer's end has not been read yet."""
    route = ROUTES.find(target)
    assert route is not None
    made = Exchange(route, method, [])
    made.whom = Whom(KeyRecord(key_id="key_1", org_id="org_1", kind="p"), Attribution())
    made.answered(200, [(b"content-type", content_type), (b"content-encoding", encoding)])
    assert made.reader is not None
    made.reader.feed(answer)
    made.complete = complete
    return made


async def test_what_has_ended_is_taken_down_after_a_moment_or_when_it_is_much() -> None:
    events = Events()
    recorder = Recorder(events, Metrics(), linger_s=0.01)
    recorder.record(exchange())
    assert not events
    await until(lambda: events)
    for _ in range(64):
        recorder.record(exchange())
    assert [event.output_tokens for event in events] == [7] * 65


async def test_what_waits_is_taken_down_before_the_end() -> None:
    events = Events()
    recorder = Recorder(events, Metrics(), linger_s=60)
    recorder.record(exchange())
    recorder.flush()
    recorder.flush()
    assert [event.output_tokens for event in events] == [7]


@pytest.mark.parametrize(("complete", "tokens"), [(True, 7), (False, 0)])
async def test_an_answer_is_read_to_its_end_only_if_it_has_come_to_it(complete: bool, tokens: int) -> None:
    events = Events()
    Recorder(events, Metrics()).record(exchange(complete=complete))
    assert [event.output_tokens for event in events] == [tokens]


def recorded(made: Exchange, metrics: Metrics | None = None) -> UsageEvent:
    events = Events()
    Recorder(events, metrics or Metrics()).record(made)
    (event,) = events
    return event


STREAMS = [
    (
        b"/v1/messages",
        b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}}\n\n'
        b'data: {"type":"message_stop"}\n\n',
    ),
    (
        b"/openai/v1/chat/completions",
        b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":7}}\n\ndata: [DONE]\n\n',
    ),
]


@pytest.mark.parametrize("why", ["client_left", "upstream_broken", "proxy_stopped"])
@pytest.mark.parametrize(("target", "stream"), STREAMS)
def test_an_answer_whose_last_event_was_read_is_whole_whoever_closes_next(
    target: bytes, stream: bytes, why: BrokeOff
) -> None:
    made = exchange(complete=False, target=target, answer=stream, content_type=b"text/event-stream")
    made.left(why)
    event = recorded(made)
    assert (event.status, event.error_type, event.output_tokens) == ("ok", "", 7)
    cut = exchange(complete=False, target=target, answer=stream[:-2], content_type=b"text/event-stream")
    cut.left(why)
    assert recorded(cut).status == "aborted"


UNREAD = {
    "two encodings": (ANSWER, b"gzip, br"),
    "a bomb": (gzip.compress(b" " * 2**25), b"gzip"),
    "no JSON": (b"<html>", b""),
    "nothing": (b"", b""),
    "usage of another form": (b'{"id":"msg_1","usage":"7 tokens"}', b""),
}


@pytest.mark.parametrize(("answer", "encoding"), UNREAD.values(), ids=UNREAD)
def test_an_answer_that_cannot_be_read_is_no_free_call(answer: bytes, encoding: bytes) -> None:
    metrics = Metrics()
    event = recorded(exchange(answer=answer, encoding=encoding), metrics)
    assert (event.status, event.error_type, event.http_status) == ("aborted", "usage_unread", 200)
    assert 'tokentide_proxy_usage_unread_total{upstream="anthropic"} 1.0' in metrics.render().decode()


ODD_NEIGHBOURS = [
    (b"/openai/v1/chat/completions", b'{"error":"","usage":{"prompt_tokens":3,"completion_tokens":7}}'),
    (b"/openai/v1/chat/completions", b'{"id":5,"usage":{"prompt_tokens":3,"completion_tokens":7}}'),
    (
        b"/openai/v1/responses",
        b'{"usage":{"input_tokens":3,"output_tokens":7,"input_tokens_details":5}}',
    ),
    (b"/v1/messages", b'{"id":7,"usage":{"input_tokens":3,"output_tokens":7,"cache_creation":[]}}'),
    (
        b"/gemini/v1beta/models/m:generateContent",
        b'{"error":[],"candidates":5,"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":7}}',
    ),
]


@pytest.mark.parametrize(("target", "answer"), ODD_NEIGHBOURS)
def test_an_odd_member_beside_the_usage_does_not_cost_it(target: bytes, answer: bytes) -> None:
    event = recorded(exchange(target=target, answer=answer))
    assert (event.status, event.input_tokens, event.output_tokens) == ("ok", 3, 7)


def test_the_last_event_of_a_complete_stream_needs_no_empty_line() -> None:
    target, stream = STREAMS[0]
    made = exchange(target=target, answer=stream[:-2], content_type=b"text/event-stream")
    assert recorded(made).status == "ok"


RESPONSES = b"/openai/v1/responses"
QUEUED = b'{"id":"resp_1","status":"queued","usage":null}'
DONE = b'{"id":"resp_1","status":"completed","usage":{"input_tokens":3,"output_tokens":7}}'


def test_a_response_begun_in_the_background_is_one_call_with_what_is_told_later() -> None:
    events, metrics = Events(), Metrics()
    recorder = Recorder(events, metrics)
    recorder.record(exchange(target=RESPONSES, answer=QUEUED))
    for later in (QUEUED, QUEUED.replace(b"queued", b"in_progress"), DONE):
        recorder.record(exchange(target=RESPONSES + b"/resp_1", answer=later, method=b"GET"))
    begun, ended = events
    assert (begun.call_id, begun.status, begun.error_type) == ("resp_1", "aborted", "answer_unfinished")
    assert (ended.call_id, ended.status, ended.output_tokens) == ("resp_1", "ok", 7)
    assert merged(add(add({}, ended), begun))[0].output_tokens == 7
    assert b"usage_unread_total{" not in metrics.render()


@pytest.mark.parametrize("target", [RESPONSES, RESPONSES + b"/resp_1/input_items", b"/v1/messages"])
def test_nothing_else_that_is_looked_up_is_a_call(target: bytes) -> None:
    route = ROUTES.find(target)
    assert route is not None
    made = Exchange(route, b"GET", [])
    made.answered(200, [(b"content-type", b"application/json")])
    assert made.reader is None
