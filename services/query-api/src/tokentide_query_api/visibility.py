"""Who sees what: from a principal to what of the organisation its questions can reach. Pure.

owner, admin: everything of the organisation. member: the calls made under their user id or e-mail address,
and rankings as the organisation's privacy allows. viewer: sums, but no single call and no telling apart of
persons, machines and sessions.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from tokentide_common.errors import Forbidden
from tokentide_query_api.accounts.people import Privacy
from tokentide_query_api.accounts.principal import Principal
from tokentide_query_api.dimensions import DIMENSIONS, Dimension
from tokentide_query_api.scope import AnyOf, Filter, Sight

PERSONAL: Final = frozenset(
    {
        "user_id",
        "user_email",
        "machine_id",
        "key_id",
        "session_id",
        "prompt_id",
        "account_id",
        "device_id",
        "tags",  # they say whatever somebody put there
    }
)
"""Columns that tell persons, their machines and their single doings apart."""
_MORE: Final = ": an admin can give the role of a member"


def sight_of(principal: Principal) -> Sight:
    """Return what a caller's questions can reach. Raises `Forbidden` for a member's key of nobody."""
    if principal.at_least("admin"):
        return Sight(principal.org_id, own=None, people=True)
    if principal.at_least("member"):
        return Sight(principal.org_id, own=own_calls(principal.user_id, principal.email), people=True)
    return Sight(principal.org_id, own=None, people=False)


def whole_organization(org_id: str) -> Sight:
    """Return what a budget counts: it is the organisation's, whoever looks at it."""
    return Sight(org_id, own=None, people=True)


def own_calls(user_id: str, email: str) -> AnyOf:
    """Return the condition of a person's own calls; what is not known of either side never matches.

    Raises `Forbidden` for nobody: who has no calls of their own would see nothing and not know why.
    """
    named = {"user_id": user_id, "user_email": email.lower()}
    known = tuple(
        Filter(DIMENSIONS[name], (value,), fold=name == "user_email")
        for name, value in named.items()
        if value
    )
    if not known:
        raise Forbidden(
            "this key has the role of a member and no owner, so no calls are its own: take one with an"
            " owner, or with the role of an admin",
            code="owner_needed",
        )
    return AnyOf(known)


def require_people(sight: Sight) -> None:
    """Raise `Forbidden` for a caller who sees aggregates only."""
    if not sight.people:
        raise Forbidden(f"viewers see aggregates only{_MORE}", code="aggregates_only")


def require_sight_of(sight: Sight, dimension: Dimension) -> None:
    """Raise `Forbidden` for a dimension that tells apart what this caller may not."""
    if not sight.people and dimension.column in PERSONAL:
        raise Forbidden(
            f"viewers see aggregates only, and nothing told apart by {dimension.name}{_MORE}",
            code="aggregates_only",
        )


class RankingSight(msgspec.Struct, frozen=True):
    """What of a ranking a caller sees: all names, pseudonyms but for the own names, or only those rows."""

    names: Literal["all", "pseudonyms", "own"]
    own: frozenset[str] = frozenset()


def ranking_sight(principal: Principal, privacy: Privacy, scope: str) -> RankingSight:
    """Return what of an organisation's ranking a caller sees. Raises `Forbidden`.

    Machines stand for persons: where persons are hidden, so are they. Which of them are the caller's cannot
    be told for sure, since whoever reports a call names its machine.
    """
    if principal.at_least("admin") or privacy == "open" or scope not in ("users", "machines"):
        return RankingSight("all")
    if not principal.at_least("member"):
        raise Forbidden(
            f"viewers see no ranking of {scope}, as the organisation has chosen{_MORE}",
            code="aggregates_only",
        )
    own = frozenset({principal.user_id, principal.email} - {""}) if scope == "users" else frozenset()
    if privacy == "pseudonymous":
        return RankingSight("pseudonyms", own)
    if scope == "machines":
        raise Forbidden(
            "the organisation keeps its ranking of machines private: its admins see it, and may open it",
            code="ranking_private",
        )
    return RankingSight("own", own)
