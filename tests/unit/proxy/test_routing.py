"""Where a path leads: to whom the settings say, never to whom a request says."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_common.errors import TokentideError
from tokentide_common.settings import load
from tokentide_proxy.routing import Routes
from tokentide_proxy.settings import ProxySettings
from tokentide_proxy.upstream_table import upstreams

SETTING = "TOKENTIDE_PROXY_UPSTREAMS"
MORE = ("mistral=openai+https://api.mistral.ai/v1/", "gw=anthropic+private+http://gateway:4000/base")


def found(target: bytes, *entries: str) -> tuple[str, bytes] | None:
    route = Routes(upstreams(entries)).find(target)
    return None if route is None else (route.upstream.host, route.target)


@pytest.mark.parametrize(
    ("target", "host", "path"),
    [
        (b"/v1/messages?beta=true", "api.anthropic.com", b"/v1/messages?beta=true"),
        (b"/api/hello", "api.anthropic.com", b"/api/hello"),
        (b"/openai/v1/chat/completions", "api.openai.com", b"/v1/chat/completions"),
        (b"/openai/chat/completions", "api.openai.com", b"/v1/chat/completions"),
        (b"/openai/v1beta/x", "api.openai.com", b"/v1/v1beta/x"),
        (b"/gemini/v1beta/models", "generativelanguage.googleapis.com", b"/v1beta/models"),
        (b"/mistral/v1/embeddings", "api.mistral.ai", b"/v1/embeddings"),
        (b"/gw/v1/messages", "gateway", b"/base/v1/messages"),
    ],
)
def test_both_ways_to_write_a_base_address_lead_to_the_same_place(
    target: bytes, host: str, path: bytes
) -> None:
    assert found(target, *MORE) == (host, path)


def test_a_setting_moves_a_built_in_upstream_and_keeps_its_name() -> None:
    table = {u.name: u for u in upstreams(["anthropic=anthropic+http://127.0.0.1:9"])}
    assert (table[""].host, table[""].port, table[""].allow_private) == ("127.0.0.1", 9, True)
    assert (table[""].provider, table["gemini"].provider) == ("anthropic", "google")


def test_a_name_is_not_private_unless_the_setting_says_so() -> None:
    (*_, public, private) = upstreams(["a=openai+https://llm.internal/v1", MORE[1]])
    assert (public.allow_private, private.allow_private) == (False, True)


@pytest.mark.parametrize(
    "entry",
    [
        "no-address",
        "x=cohere+https://api.cohere.com",
        "x=openai+http://api.example.com",
        "x=openai+ftp://api.example.com",
        "x=openai+https://user:password@api.example.com",
        "x=openai+https://api.example.com/v1?key=1",
        "x=openai+https://api.example.com:99999",
        "X=openai+https://api.example.com",
        "v1=openai+https://api.example.com",
        "metrics=openai+https://api.example.com",
        "openai=anthropic+https://api.example.com",
        "x=anthropic+usage+https://api.example.com",
    ],
)
def test_what_is_no_upstream_stops_the_start_and_is_not_quoted(entry: str) -> None:
    for refusing in (lambda: upstreams([entry]), lambda: load(ProxySettings, {SETTING: entry})):
        with pytest.raises(TokentideError) as error:
            refusing()
        assert error.value.stable_code == "invalid_settings"
        assert "password" not in error.value.detail


def test_only_who_is_known_to_understand_it_is_asked_for_usage() -> None:
    entries = ["a=openai+https://a.example", "b=openai+usage+https://b.example"]
    asked = ["c=openai+private+usage+http://c", "d=openai+usage+private+http://d"]
    settings = load(ProxySettings, {SETTING: ",".join([*entries, *asked])})
    table = upstreams(settings.proxy_upstreams)
    assert [u.name for u in table if u.asks_for_usage] == ["openai", "b", "c", "d"]
    assert [u.name for u in table if u.allow_private] == ["c", "d"]


def test_the_setting_is_a_list() -> None:
    settings = load(ProxySettings, {SETTING: ", ".join(MORE)})
    assert [u.name for u in upstreams(settings.proxy_upstreams)] == ["", "openai", "gemini", "mistral", "gw"]


STEPS = st.sampled_from([b"/", b"..", b".", b"%2e", b"%2E.", b"%2f", b"\\", b"%5C", b";", b"%3B", b"a", b"?"])


@given(st.binary(max_size=80) | st.lists(STEPS, max_size=8).map(b"".join))
def test_whatever_is_asked_for_stays_below_the_base_of_an_upstream(rest: bytes) -> None:
    route = Routes(upstreams(MORE)).find(b"/gw/" + rest)
    assert route is None or route.target.startswith(b"/base/")
    path = b"" if route is None else route.target.partition(b"?")[0]
    # As the most generous server reads it: escaped slashes and backslashes divide, and parameters end a step.
    divided = unquote_to_bytes(path).replace(b"\\", b"/").split(b"/")
    assert not {b".", b".."} & {step.partition(b";")[0] for step in divided}
