from itertools import combinations

from tokentide_common.identity import (
    alias_and_call,
    call_id_for,
    derived_call_id,
    fitting,
    known_by,
    message_of,
)

LONG = "chatcmpl-BxG1mKq0aZy7Yt5eUe2rT9wQ"


def test_anthropics_request_id_goes_before_every_other_id() -> None:
    assert call_id_for(request_id="req_1", message_id="msg_1", response_id="resp_1") == "req_1"


def test_ids_that_a_provider_issued_are_taken_as_they_are() -> None:
    assert call_id_for(response_id="resp_1", session_id="s") == "resp_1"
    assert call_id_for(message_id="msg_1", session_id="s") == "msg_1"


def test_ids_that_gateways_reuse_are_scoped_by_session() -> None:
    assert call_id_for(response_id="chatcmpl-1", session_id="s") == "s:chatcmpl-1"
    assert call_id_for(request_id="7", session_id="s") == "s:7"


def test_geminis_response_id_is_the_same_to_whoever_knows_no_session() -> None:
    assert call_id_for(response_id="uttfv2W8dL", session_id="s", provider="google") == "uttfv2W8dL"
    assert call_id_for(response_id="uttfv2W8dL", session_id="s", provider="openai") == "s:uttfv2W8dL"


def test_an_id_too_long_for_an_event_has_a_digest_that_never_changes() -> None:
    long = f"{'s' * 250}:chatcmpl-1"
    assert fitting(long[:256], anthropic=True) == long[:256]
    assert fitting(long, anthropic=True) == derived_call_id("claude-code", long)
    assert fitting(long, anthropic=False) == derived_call_id("otlp", long)


def test_no_id_is_no_identity() -> None:
    assert call_id_for(session_id="s", provider="google") == ""


def test_a_derived_id_depends_on_every_part_and_on_nothing_else() -> None:
    assert derived_call_id("a", 1) == derived_call_id("a", 1)
    assert len({derived_call_id("a", 1), derived_call_id("a", 2), derived_call_id("a1")}) == 3


def test_a_call_is_known_by_its_message_alone_where_its_id_says_no_more() -> None:
    assert message_of("msg_1") == "msg_1"
    assert message_of(f":{LONG}") == LONG
    assert [message_of(i) for i in ("req_1", "resp_1", "x_1", f"s:{LONG}", ":chatcmpl-1")] == [""] * 5
    assert [known_by(message_of(i)) for i in ("msg_1", f":{LONG}")] == ["msg_1", f":{LONG}"]


def test_what_tells_more_of_a_call_is_the_id_that_it_is_counted_under() -> None:
    falling = ["req_1", "msg_1", f"s:{LONG}", f":{LONG}", "x_1"]
    for kept, given_up in combinations(falling, 2):
        assert alias_and_call(kept, given_up) == alias_and_call(given_up, kept) == (given_up, kept)
