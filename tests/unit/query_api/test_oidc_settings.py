"""Which identity providers a setting may name, and which role groups give."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_common.errors import TokentideError
from tokentide_common.settings import effective, load
from tokentide_query_api.accounts.oidc_groups import role_of
from tokentide_query_api.accounts.oidc_settings import OidcProvider, is_safe, oidc_providers
from tokentide_query_api.accounts.principal import RANK
from tokentide_query_api.settings import QuerySettings

URL = "https://login.example.com/realm/.well-known/openid-configuration"
GOOD: dict[str, Any] = {
    "name": "main",
    "discovery_url": URL,
    "client_id": "tokentide",
    "client_secret": "a-secret-value",
    "organisation": "org_a",
    "roles": {"admins": "admin"},
}
ROLES = st.sampled_from(sorted(RANK))


def text(*providers: dict[str, Any]) -> str:
    return msgspec.json.encode(list(providers)).decode()


def test_a_provider_is_read_with_what_it_leaves_out() -> None:
    (provider,) = oidc_providers(text(GOOD)).values()
    assert (provider.issuer, provider.scopes) == (
        "https://login.example.com/realm",
        ("openid", "email", "profile"),
    )
    assert (provider.gives_roles, provider.link_by_email) == (True, False)
    assert oidc_providers("") == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "Main"},
        {"name": "a/b"},
        {"name": "main\n"},
        {"discovery_url": "http://login.example.com/.well-known/openid-configuration"},
        {"discovery_url": "https://login.example.com/"},
        {"discovery_url": "https://user:pass@login.example.com/.well-known/openid-configuration"},
        {"client_id": ""},
        {"organisation": ""},
        {"scopes": ["email"]},
        {"roles": {"admins": "emperor"}},
        {"default_role": "owner"},
        {"link_by_emial": True},
    ],
    ids=str,
)
def test_a_provider_that_cannot_be_stops_the_start_without_showing_a_secret(wrong: dict[str, Any]) -> None:
    given_text = text({**GOOD, **wrong})
    with pytest.raises(TokentideError) as caught:
        load(QuerySettings, {"TOKENTIDE_OIDC_PROVIDERS": given_text})
    assert caught.value.stable_code == "invalid_settings"
    assert "TOKENTIDE_OIDC_PROVIDERS" in caught.value.detail
    assert "a-secret-value" not in caught.value.detail


@pytest.mark.parametrize("given_text", ["{}", "[", "[1]", text(GOOD, GOOD)])
def test_what_is_no_list_of_different_providers_stops_the_start(given_text: str) -> None:
    with pytest.raises(TokentideError, match="TOKENTIDE_OIDC_PROVIDERS"):
        load(QuerySettings, {"TOKENTIDE_OIDC_PROVIDERS": given_text})


def test_a_check_of_the_settings_shows_no_secret() -> None:
    shown = effective(load(QuerySettings, {"TOKENTIDE_OIDC_PROVIDERS": text(GOOD)}))
    assert shown["TOKENTIDE_OIDC_PROVIDERS"] == "***"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/x", "http://[::1]/x", "http://localhost/x", "https://a/b"]
)
def test_secrets_go_by_https_or_stay_on_this_machine(url: str) -> None:
    assert is_safe(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1.example.com/",
        "http://10.0.0.1/",
        "https:///x",
        "https://a:b@c/",
        "//a/",
        "https://[",
        "",
    ],
)
def test_secrets_go_nowhere_else(url: str) -> None:
    assert not is_safe(url)


@given(st.text())
def test_any_text_can_be_judged_as_an_address(url: str) -> None:
    assert is_safe(url) in {True, False}


@given(st.dictionaries(st.text(max_size=3), ROLES), st.frozensets(st.text(max_size=3)))
def test_of_several_groups_the_highest_role_counts(roles: dict[str, Any], groups: frozenset[str]) -> None:
    provider = msgspec.convert({**GOOD, "roles": roles, "default_role": "viewer"}, OidcProvider)
    given_roles = [roles[group] for group in groups if group in roles]
    best = role_of(provider, groups)
    assert best == ("viewer" if not given_roles else max(given_roles, key=RANK.__getitem__))
