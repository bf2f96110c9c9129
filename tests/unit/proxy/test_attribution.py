"""Whom a call is counted for: our headers first, then what clients themselves send, and never content."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_common.events import MAX_RETRIES
from tokentide_proxy.attribution import attribution_of, request_facts
from tokentide_proxy.exchange import Attribution, RequestFacts

DEVICE = "7d0cb34f71cc02a97e44727d782cccfeeceb974b629ad527708513650da32fc1"
SESSION = "1516c279-7baa-48fe-9f2f-201c75ad666a"


def test_our_own_headers_name_user_project_team_session_and_tags() -> None:
    headers = [
        (b"x-tokentide-user", b"Ann@Example.com"),
        (b"x-tokentide-project", b"tide"),
        (b"x-tokentide-team", b"sea"),
        (b"x-tokentide-department", b"water"),
        (b"x-tokentide-session", b"s-1"),
        (b"x-tokentide-tags", b"env=prod, repo = tide ,broken,=x,y="),
    ]
    assert attribution_of(headers) == Attribution(
        user_id="ann@example.com",
        user_email="ann@example.com",
        session_id="s-1",
        project="tide",
        team="sea",
        department="water",
        tags={"env": "prod", "repo": "tide"},
    )


def test_the_older_names_of_the_headers_still_count_and_ours_go_first() -> None:
    older = [(b"x-cua-user", b"ann"), (b"x-cua-project", b"p"), (b"x-cua-department", b"d")]
    said = attribution_of([*older, (b"x-tokentide-project", b"mine")])
    assert (said.user_id, said.user_email, said.project, said.department) == ("ann", "", "mine", "d")


@pytest.mark.parametrize(
    ("said", "retries"),
    [(b"0", 0), (b" 2 ", 2), (b"9999", 9999), (b"10000", 0), (b"-1", 0), ("²".encode(), 0)],
)
def test_an_sdk_says_how_often_it_has_tried_before(said: bytes, retries: int) -> None:
    assert attribution_of([(b"x-stainless-retry-count", said)]).retry_attempt == retries
    assert attribution_of([]).retry_attempt == 0


@pytest.mark.parametrize("name", [b"x-session-id", b"session-id", b"session_id"])
def test_other_clients_name_their_session_too_and_ours_goes_first(name: bytes) -> None:
    headers = [(name, SESSION.encode())]
    assert attribution_of(headers).session_id == SESSION
    assert attribution_of([*headers, (b"x-tokentide-session", b"mine")]).session_id == "mine"


def test_claude_codes_own_headers_name_session_and_agent() -> None:
    said = attribution_of(
        [
            (b"user-agent", b"claude-cli/2.1.330 (external, sdk-cli)"),
            (b"x-claude-code-session-id", SESSION.encode()),
            (b"x-claude-code-agent-id", b"a24ba2e960fbf86b4"),
        ]
    )
    assert (said.client, said.session_id, said.agent) == ("claude-code", SESSION, "a24ba2e960fbf86b4")


@pytest.mark.parametrize(
    ("agent", "client"),
    [
        ("codex_exec/0.169.0 (Linux)", "codex"),
        ("codex-cli", "codex"),
        ("GeminiCLI-tui/0.61.0/gemini-2.5-pro (linux; x64; terminal)", "gemini-cli"),
        ("opencode/1.18.33 ai-sdk/provider-utils/4.0.46 runtime/bun/1.3.14", "opencode"),
        ("python-requests/2.32", "python-requests"),
        ("Anthropic/Python 0.80.0", "anthropic"),
        ("a sentence that is no product", ""),
        ("", ""),
    ],
)
def test_the_program_is_told_by_its_user_agent(agent: str, client: str) -> None:
    assert attribution_of([(b"user-agent", agent.encode())]).client == client


def test_what_is_too_long_is_left_out() -> None:
    said = attribution_of([(b"x-tokentide-project", b"p" * 1025), (b"x-tokentide-tags", b"n" * 65 + b"=v")])
    assert said == Attribution()
    assert attribution_of([(b"x-tokentide-team", b"t" * 257)]) == Attribution()
    folded = "\u00df" * 200 + "@x"  # two letters each in small ones
    assert attribution_of([(b"x-tokentide-user", folded.encode())]) == Attribution()


def test_each_tag_has_its_own_bound_and_a_project_as_much_as_an_event() -> None:
    tags = [b"n%02d=%b" % (number, b"v" * 40) for number in range(30)]
    said = attribution_of(
        [(b"x-tokentide-project", b"p" * 1024), (b"x-tokentide-tags", b",".join([*tags, b"z=" + b"v" * 999]))]
    )
    assert (len(said.project), len(said.tags), said.tags["z"]) == (1024, 31, "v" * 256)


def test_names_in_utf_8_and_in_latin_1_are_what_was_meant() -> None:
    for encoding in ("utf-8", "latin-1"):
        headers = [(b"x-tokentide-project", "Gr\u00f6\u00dfe".encode(encoding))]
        assert attribution_of(headers).project == "Gr\u00f6\u00dfe"


@pytest.mark.parametrize(
    "user_id",
    [
        json.dumps({"device_id": DEVICE, "account_uuid": "acc-1", "session_id": SESSION}),
        f"user_{DEVICE}_account_acc-1_session_{SESSION}".replace("acc-1", "ac1"),
    ],
    ids=["now", "old"],
)
def test_the_body_names_model_device_account_and_session(user_id: str) -> None:
    body = {
        "model": "claude-sonnet-5-5",
        "messages": [{"content": "CANARY"}],
        "metadata": {"user_id": user_id},
    }
    said = request_facts(json.dumps(body).encode())
    assert said.model == "claude-sonnet-5-5"
    assert (said.device_id, said.session_id) == (DEVICE, SESSION)
    assert said.account_id in ("acc-1", "ac1")
    assert "CANARY" not in repr(said)


def test_another_programs_idea_of_a_user_is_not_kept() -> None:
    body = {"model": "m", "metadata": {"user_id": "ann@example.com"}}
    assert request_facts(json.dumps(body).encode()) == RequestFacts(model="m")


@given(
    st.binary(max_size=200) | st.recursive(st.none() | st.text(), st.lists).map(json.dumps).map(str.encode)
)
def test_no_body_is_an_error(body: bytes) -> None:
    request_facts(body)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"user-agent", b"x-tokentide-tags", b"x-stainless-retry-count"]), st.binary()
        )
    )
)
def test_no_header_is_an_error(headers: list[tuple[bytes, bytes]]) -> None:
    said = attribution_of(headers)
    assert len(said.tags) <= 32
    assert 0 <= said.retry_attempt <= MAX_RETRIES
