"""Who may make, see and change which key. Pure."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from tokentide_common.errors import Forbidden, InvalidRequest
from tokentide_common.key_directory import Role
from tokentide_common.keys import KeyKind
from tokentide_query_api.accounts.principal import RANK, Principal, Scope, lower

_LONGEST: Final = timedelta(days=3660)


def sees_key(principal: Principal, owner_id: str | None) -> bool:
    """Tell whether a key is the caller's own, or the caller sees all of the organisation."""
    return principal.at_least("admin") or bool(owner_id and owner_id == principal.user_id)


def role_of_new(principal: Principal, kind: KeyKind, wanted: Role | None) -> Role:
    """Return the role of a new key. Raises `Forbidden` above the maker's own."""
    if kind != "a":
        if wanted is not None:
            raise InvalidRequest("only an API key has a role", fields={"role": "of API keys alone"})
        return "viewer"  # never asked for: it opens no route that reads
    if wanted is None:
        return lower(principal.role, "member")
    not_above(principal, wanted)
    return wanted


def not_above(principal: Principal, role: Role) -> None:
    """Raise `Forbidden` for a role that may do more than the caller: nobody gives what they do not have."""
    if RANK[role] > RANK[principal.role]:
        raise Forbidden("nobody gives a role above their own", code="role_above_own")


def scopes_of(principal: Principal, kind: KeyKind, wanted: Collection[Scope]) -> str:
    """Return a key's scopes as they are stored. Raises `Forbidden` for one that its maker does not have."""
    if kind != "a":
        if wanted:
            raise InvalidRequest("only an API key has scopes", fields={"scopes": "of API keys alone"})
        return ""
    if not set(wanted) <= principal.scopes:
        raise Forbidden("nobody gives a scope that they do not have", code="role_above_own")
    return " ".join(sorted(set(wanted or principal.scopes)))


def expiry_of(wanted: datetime | None, now: datetime) -> datetime | None:
    """Return when a key is to expire. Raises `InvalidRequest` for a time that is over or ten years away."""
    if wanted is not None and not now < wanted < now + _LONGEST:
        raise InvalidRequest(
            "a key expires in the future, within ten years", fields={"expires_at": "in the future"}
        )
    return wanted


def within(expires_at: datetime | None, of_maker: datetime | None) -> datetime | None:
    """Return when a key made with another expires: no later than that one, else a leak would live on."""
    if of_maker is None:
        return expires_at
    return of_maker if expires_at is None else min(expires_at, of_maker)


def owner_of_new(principal: Principal, wanted: str | None, *, said: bool) -> str | None:
    """Return whose a new key is. Raises `Forbidden` when a member makes one for anybody else."""
    owner = (wanted or None) if said else (principal.user_id or None)
    if owner != (principal.user_id or None) or owner is None:
        principal.require("admin")
    return owner


def attributes_to(principal: Principal, email: str) -> None:
    """Raise `Forbidden` when a member lets calls count as another person's."""
    if email and email != principal.email and not principal.at_least("admin"):
        raise Forbidden("a member's keys stand for nobody else", code="attribution_not_allowed")
