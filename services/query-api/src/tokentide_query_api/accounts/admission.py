"""Lets a request in: an API key or a user's access token becomes a `Principal`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, cast

from tokentide_common.errors import Unauthorized
from tokentide_common.key_directory import KeyRecord, LiveKeys, secret_from
from tokentide_common.keys import KEY_PREFIX, KeyKind
from tokentide_query_api.accounts.access_tokens import AccessTokens, Claims
from tokentide_query_api.accounts.people import LivePeople
from tokentide_query_api.accounts.principal import Principal, Scope, lower

# Machine and proxy keys write; only API keys and people read.
_READERS: Final[tuple[KeyKind, ...]] = ("a",)
_EVERY_SCOPE: Final[frozenset[Scope]] = frozenset({"read", "manage"})
_REFUSED: Final = "a valid key or access token is needed: Authorization: Bearer …"


class Access:
    """Judges credentials in memory; only a key or a member not known yet waits for the database."""

    def __init__(
        self, keys: LiveKeys, people: LivePeople, tokens: AccessTokens, clock: Callable[[], datetime]
    ) -> None:
        self._keys = keys
        self._people = people
        self._tokens = tokens
        self._clock = clock

    async def admit(self, headers: Mapping[str, str]) -> Principal:
        """Return who asks; raises `Unauthorized`, or `Unavailable` when that cannot be told any more."""
        secret = secret_from(headers)
        if secret and not secret.startswith(KEY_PREFIX):
            claims = self._tokens.read(secret, self._clock())
            await self._look_for(claims.org_id, claims.user_id)
            return self._user(claims)
        key = await self._keys.admit(secret, _READERS)
        if key.owner_id:
            await self._look_for(key.org_id, key.owner_id)
        return self._key(key)

    async def _look_for(self, org_id: str, user_id: str) -> None:
        """Look once more before somebody is refused: another replica may have just made them a member.

        Only tokens of ours and known keys get here, and who was removed asks in vain as often as they like:
        no flood of either becomes a flood of queries.
        """
        if self._people.member(org_id, user_id) is None:
            await self._people.look_again()

    def _user(self, claims: Claims) -> Principal:
        member = self._people.member(claims.org_id, claims.user_id)
        if member is None or self._people.has_ended(claims.session_id):
            raise Unauthorized(_REFUSED)
        return Principal(
            org_id=claims.org_id,
            role=member.role,
            kind="user",
            actor_id=claims.user_id,
            user_id=claims.user_id,
            email=member.email,
            session_id=claims.session_id,
        )

    def _key(self, key: KeyRecord) -> Principal:
        role, email = key.role, ""
        if key.owner_id:
            owner = self._people.member(key.org_id, key.owner_id)
            if owner is None:
                raise Unauthorized(_REFUSED)
            role, email = lower(role, owner.role), owner.email
        scopes = frozenset(cast("list[Scope]", key.scopes.split()))
        return Principal(
            org_id=key.org_id,
            role=role,
            kind="key",
            actor_id=key.key_id,
            user_id=key.owner_id,
            email=email,
            scopes=scopes or _EVERY_SCOPE,
        )
