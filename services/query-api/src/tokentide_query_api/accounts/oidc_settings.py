"""Which identity providers people may log in with, as `TOKENTIDE_OIDC_PROVIDERS` says it. Pure."""

from __future__ import annotations

from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec

from tokentide_common.errors import TokentideError
from tokentide_common.key_directory import Role
from tokentide_query_api.client_address import is_loopback

_NAME_PATTERN: Final = r"^[a-z][a-z0-9-]{0,31}$(?!\n)"
WELL_KNOWN: Final = "/.well-known/openid-configuration"

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]
_Claim = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class OidcProvider(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An identity provider, the organisation whose people it knows, and what its groups mean there."""

    name: Annotated[str, msgspec.Meta(pattern=_NAME_PATTERN)]
    """What stands for it in addresses."""
    discovery_url: _Text
    client_id: _Text
    client_secret: str = ""
    """Empty: a public client, which PKCE alone protects."""
    organisation: _Text
    """The id of the organisation that its people belong to."""
    title: str = ""
    """What a button says; empty: its name."""
    scopes: tuple[_Claim, ...] = ("openid", "email", "profile")
    groups_claim: _Claim = "groups"
    verified_claim: _Claim = "email_verified"
    """The claim by which it says that the e-mail address was verified."""
    domains: tuple[_Claim, ...] = ()
    """The domains of e-mail addresses that it may speak for; none: all."""
    link_by_email: bool = False
    """Whether who is known here by the same e-mail address is taken for the same person."""
    roles: dict[str, Role] = {}
    teams: dict[str, Annotated[str, msgspec.Meta(min_length=1, max_length=200)]] = {}
    default_role: Literal["", "viewer", "member", "admin"] = ""
    """The role of people in none of the groups of `roles`; empty: none, they do not get in."""

    @property
    def gives_roles(self) -> bool:
        """Whether roles follow the groups; else only those get in who are members already, as they are."""
        return bool(self.roles or self.default_role)

    @property
    def issuer(self) -> str:
        """What its tokens must name as their issuer, but for a slash at the end."""
        return self.discovery_url.removesuffix(WELL_KNOWN)


def oidc_providers(text: str) -> dict[str, OidcProvider]:
    """Return the providers by name; raises a `TokentideError` that never quotes what was given."""
    if not text:
        return {}
    try:
        given = msgspec.json.decode(text, type=list[OidcProvider])
    except msgspec.MsgspecError as exc:
        raise _invalid(str(exc)) from None
    found: dict[str, OidcProvider] = {}
    for provider in given:
        if provider.name in found:
            raise _invalid(f"{provider.name} is there twice")
        if not provider.discovery_url.endswith(WELL_KNOWN) or not is_safe(provider.discovery_url):
            raise _invalid(f"the discovery_url of {provider.name} is not https://…{WELL_KNOWN}")
        if "openid" not in provider.scopes:
            raise _invalid(f"the scopes of {provider.name} lack openid")
        found[provider.name] = provider
    return found


def is_safe(url: str) -> bool:
    """Tell whether secrets may go to this address: by https, or never leaving this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    if parts.username is not None or not host:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_here(host))


def is_here(host: str) -> bool:
    """Tell whether a host, by name or address, is this machine."""
    return host == "localhost" or is_loopback(host)


def _invalid(why: str) -> TokentideError:
    return TokentideError(
        f"TOKENTIDE_OIDC_PROVIDERS: {why}",
        code="invalid_settings",
        fields={"TOKENTIDE_OIDC_PROVIDERS": why},
    )
