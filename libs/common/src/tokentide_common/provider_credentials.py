"""Providers' keys of organisations: sealed in the database, changed and listed, never shown again."""

from __future__ import annotations

import re
from datetime import datetime
from functools import partial
from typing import Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from tokentide_common.accounts_schema import provider_credentials
from tokentide_common.credential_directory import LiveCredentials
from tokentide_common.database import Engine, insert_or, reading, selected, utc_now, writing
from tokentide_common.errors import InvalidRequest, NotFound
from tokentide_common.vault import Vault

__all__ = [
    "CredentialDirectory",
    "KeptKey",
    "Vault",
    "forget_credential",
    "forget_in",
    "keep_credential",
    "keep_in",
    "kept_keys",
]

_MAX_KEY: Final = 4096
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")


class KeptKey(msgspec.Struct, frozen=True):
    """That a key is kept, for which upstream and since when; never the key."""

    name: str
    changed_at: datetime


def keep_credential(engine: Engine, vault: Vault, org_id: str, upstream: str, secret: str) -> None:
    """Keep an organisation's key for an upstream in place of the one before.

    Raises `InvalidRequest` for what cannot be a key or a name, and `NotFound` for an unknown organisation.
    """
    with writing(engine) as connection:
        keep_in(connection, vault, org_id, upstream, secret)


def keep_in(connection: Connection, vault: Vault, org_id: str, upstream: str, secret: str) -> None:
    """Keep a key as `keep_credential` does, in the caller's transaction."""
    if _NAME.fullmatch(upstream) is None:
        raise InvalidRequest("a provider's name is like anthropic or my-gateway")
    if not secret.isascii() or not secret.isprintable() or " " in secret or not 0 < len(secret) <= _MAX_KEY:
        raise InvalidRequest("a provider's key is printable text without spaces", code="invalid_provider_key")
    sealed, now = vault.seal(org_id, upstream, secret), utc_now()
    row = {"org_id": org_id, "upstream": upstream, "sealed": sealed, "changed_at": now}
    statement = insert_or(connection.engine, provider_credentials).values(**row)
    changed = statement.on_conflict_do_update(
        index_elements=["org_id", "upstream"], set_={"sealed": sealed, "changed_at": now}
    )
    try:
        connection.execute(changed)
    except IntegrityError as exc:
        raise NotFound("no such organization") from exc


def forget_credential(engine: Engine, org_id: str, upstream: str) -> None:
    """Forget an organisation's key for an upstream; raises `NotFound` when there is none."""
    with writing(engine) as connection:
        forget_in(connection, org_id, upstream)


def forget_in(connection: Connection, org_id: str, upstream: str) -> None:
    """Forget a key as `forget_credential` does, in the caller's transaction."""
    mine = (provider_credentials.c.org_id == org_id, provider_credentials.c.upstream == upstream)
    if connection.execute(sa.delete(provider_credentials).where(*mine)).rowcount == 0:
        raise NotFound("no key is kept for this provider")


def kept_keys(engine: Engine, org_id: str) -> list[KeptKey]:
    """Return for which upstreams an organisation keeps a key, in the order of their names."""
    table = provider_credentials.c
    mine = sa.select(table.upstream, table.changed_at).where(table.org_id == org_id).order_by(table.upstream)
    with reading(engine) as connection:
        return [KeptKey(name, changed_at) for name, changed_at in connection.execute(mine)]


class CredentialDirectory(LiveCredentials):
    """The providers' keys as an engine reads them."""

    def __init__(self, engine: Engine, vault: Vault | None, refresh_s: float = 2.0) -> None:
        super().__init__(partial(selected, engine), vault, refresh_s)
