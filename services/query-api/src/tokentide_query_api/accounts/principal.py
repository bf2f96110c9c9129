"""Who asks: a user with a session, or an API key; of which organisation, and what they may do. Pure."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from tokentide_common.errors import Forbidden
from tokentide_common.key_directory import Role

RANK: Final[dict[Role, int]] = {"viewer": 0, "member": 1, "admin": 2, "owner": 3}
Scope = Literal["read", "manage"]
"""read: usage, rankings, coverage; manage: people, keys, organisation. Of API keys; users have both."""


class Principal(msgspec.Struct, frozen=True):
    """Who asks, after key or token were accepted. `org_id` comes from those and from nowhere else."""

    org_id: str
    role: Role
    kind: Literal["user", "key"]
    actor_id: str
    """The id of the user or of the key."""
    user_id: str = ""
    """Whose own calls they are: the user, or the owner of the key; empty: the key is the organisation's."""
    email: str = ""
    session_id: str = ""
    scopes: frozenset[Scope] = frozenset({"read", "manage"})

    def at_least(self, role: Role) -> bool:
        """Tell whether this role may do what `role` may."""
        return RANK[self.role] >= RANK[role]

    def require(self, role: Role) -> None:
        """Raise `Forbidden` unless the role is at least `role`."""
        if not self.at_least(role):
            raise Forbidden(
                f"only an {role} may do this" if role[0] in "ao" else f"only a {role} may do this"
            )

    def require_scope(self, scope: Scope) -> None:
        """Raise `Forbidden` unless the key was made for this."""
        if scope not in self.scopes:
            raise Forbidden(f"this key was not made to {scope}")

    def require_user(self) -> str:
        """Return the user's id; raises `Forbidden` for a key, which is nobody."""
        if self.kind != "user":
            raise Forbidden("this needs a user who has logged in, not a key", code="user_needed")
        return self.user_id


def lower(one: Role, other: Role) -> Role:
    """Return the role that may do less."""
    return min(one, other, key=RANK.__getitem__)
