"""What the routes of keys read and answer."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from tokentide_common.key_directory import Role
from tokentide_common.keys import KeyKind
from tokentide_query_api.accounts.principal import Scope
from tokentide_query_api.accounts.words import Id, Label, Moment, Name, NoEmail


class NewKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key as it is asked for. The last five are stamped on a call that does not say it itself."""

    kind: KeyKind
    name: Name
    role: Role | None = None
    """Of an API key: what it may do at most; none: `member`, or what its maker may if that is less."""
    scopes: list[Scope] = []
    """Of an API key; none: all that its maker has."""
    expires_at: Moment | None = None
    owner_id: Id | msgspec.UnsetType | None = msgspec.UNSET
    """Whose it is; null: the organisation's; absent: its maker's."""
    user_email: NoEmail | None = None
    machine_id: Label = ""
    project: Label = ""
    team: Label = ""
    department: Label = ""


class KeyChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What changes of a key; what is absent stays."""

    name: Name | msgspec.UnsetType = msgspec.UNSET
    role: Role | msgspec.UnsetType = msgspec.UNSET
    scopes: list[Scope] | msgspec.UnsetType = msgspec.UNSET
    expires_at: Moment | msgspec.UnsetType | None = msgspec.UNSET
    user_email: NoEmail | msgspec.UnsetType = msgspec.UNSET
    machine_id: Label | msgspec.UnsetType = msgspec.UNSET
    project: Label | msgspec.UnsetType = msgspec.UNSET
    team: Label | msgspec.UnsetType = msgspec.UNSET
    department: Label | msgspec.UnsetType = msgspec.UNSET


class ShownKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key, without the key: nothing here helps to guess it."""

    key_id: str
    kind: KeyKind
    name: str
    role: Role | None
    scopes: list[str]
    owner_id: str | None
    user_id: str
    user_email: str
    machine_id: str
    project: str
    team: str
    department: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    version: int


class IssuedKey(ShownKey, frozen=True, kw_only=True):
    """A new key; the only time that it is seen."""

    key: str


class KeyPage(msgspec.Struct, frozen=True):
    """A page of keys, newest first."""

    items: list[ShownKey]
    next_cursor: str | None


def shown_key(row: sa.Row[Any]) -> ShownKey:
    """Return what is shown of a row of `api_keys`."""
    facts = {name: row._mapping[name] for name in ShownKey.__struct_fields__}
    facts["scopes"] = row.scopes.split()
    facts["role"] = row.role if row.kind == "a" else None
    return ShownKey(**facts)
