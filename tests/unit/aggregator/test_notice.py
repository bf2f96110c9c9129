"""What a block notes of messages: who knows a call by its answer alone, and who knows the request too."""

from __future__ import annotations

from infra.observations import NOON
from tokentide_aggregator.notice import Notice
from tokentide_common.events import UsageEvent


def event(call_id: str, **fields: str) -> UsageEvent:
    return UsageEvent(call_id=call_id, occurred_at=NOON, org_id="o", **({"source": "cli"} | fields))  # type: ignore[arg-type]


def met(*events: UsageEvent) -> Notice:
    notice = Notice()
    notice.meet(events)
    return notice


def test_a_call_whose_source_knows_both_ids_is_noted_once_for_each_message() -> None:
    line = event("req_1", message_id="msg_1")
    assert met(line, line, event("req_1"), event("req_1", message_id="msg_2")).bridges == {
        "o": [("msg_1", "req_1", NOON), ("msg_2", "req_1", NOON)]
    }


def test_a_call_that_is_known_by_its_answer_alone_is_noted_as_such() -> None:
    said = met(event("msg_1", message_id="msg_1"))
    assert (said.messages, said.bridges) == ({("o", "msg_1"): NOON}, {})


def test_what_only_links_a_call_is_no_occasion_to_link_it_again() -> None:
    assert not met(event("msg_1", source="link", same_as="req_1"))
    assert met(event("msg_1", source="link", user_email="ann@x.io"))


def test_an_id_of_a_response_that_names_the_call_itself_leads_nowhere() -> None:
    assert not met(event("resp_1", message_id="resp_1"))
