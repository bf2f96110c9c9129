"""What has ended is taken down soon, and none is forgotten."""

from __future__ import annotations

import pytest

from infra.waiting import until
from tokentide_common.events import UsageEvent
from tokentide_common.key_directory import KeyRecord
from tokentide_common.metrics import Metrics
from tokentide_proxy.exchange import Headers
from tokentide_proxy.exchanges import Exchange
from tokentide_proxy.limit_headers import Observer
from tokentide_proxy.recorder import Recorder
from tokentide_proxy.routing import Routes
from tokentide_proxy.upstream_table import upstreams

ROUTES = Routes(upstreams(()))
ANSWER = b'{"id":"msg_01","model":"claude","stop_reason":"end_turn","usage":{"output_tokens":7}}'


class Events(list[UsageEvent]):
    def offer(self, event: UsageEvent) -> None:
        self.append(event)

    def offer_limits(self, headers: Headers, seen: Observer) -> None:
        raise AssertionError("none was told")


def exchange(*, complete: bool = True) -> Exchange:
    """One that has had its answer, and whose answer's end has not been read yet."""
    route = ROUTES.find(b"/v1/messages")
    assert route is not None
    made = Exchange(route, b"POST", [])
    made.key = KeyRecord(key_id="key_1", org_id="org_1", kind="p")
    made.answered(200, [(b"content-type", b"application/json")])
    assert made.reader is not None
    made.reader.feed(ANSWER)
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
