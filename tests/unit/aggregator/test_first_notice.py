"""What a batch gives occasion to conclude: the short way for lines of a log finds what the long one finds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from infra.observations import observations
from tokentide_aggregator.notice import Notice
from tokentide_common.events import UsageEvent
from tokentide_common.identity import derived_call_id
from tokentide_common.merge import speaker

ids = st.sampled_from(["req_1", "msg_1", ":chatcmpl-1", derived_call_id("a")])
told = st.builds(
    lambda event, call_id, client, message_id: replace(
        event, call_id=call_id, client=client, message_id=message_id
    ),
    observations(links=("req_2",)),
    ids,
    st.sampled_from(["", "claude-code", "codex", "opencode"]),
    st.sampled_from(["", "req_1", "msg_1", "msg_2"]),
)


@given(events=st.lists(told, max_size=4))
def test_a_first_observation_is_noticed_as_any_other_is(events: list[UsageEvent]) -> None:
    short, long = Notice(), Notice()
    for event in events:
        short.take_first(event)
        long.hear(event)
        long.take({speaker(event): event})
        long.meet((event,))
    assert vars(short) == vars(long)
