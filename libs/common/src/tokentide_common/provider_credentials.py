"""Providers' keys of organisations: sealed in the database, opened once into memory, never shown again."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
from datetime import datetime
from typing import Final

import msgspec
import sqlalchemy as sa
import structlog
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy.exc import IntegrityError

from tokentide_common.database import Engine, insert_or, provider_credentials, reading, utc_now, writing
from tokentide_common.errors import InvalidRequest, NotFound, Unavailable

_MAX_KEY: Final = 4096
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_PURPOSE: Final = b"tokentide provider credentials 1"
_log = structlog.get_logger(__name__)


class KeptKey(msgspec.Struct, frozen=True):
    """That a key is kept, for which upstream and since when; never the key."""

    name: str
    changed_at: datetime


class Vault:
    """Seals and opens with `TOKENTIDE_SECRET_KEY`; raises `InvalidRequest` when that is not set."""

    def __init__(self, secret_key: str) -> None:
        if not secret_key:
            raise InvalidRequest(
                "TOKENTIDE_SECRET_KEY is not set: without it no provider's key can be kept",
                code="no_secret_key",
            )
        # One setting serves several purposes: each derives a key of its own from it.
        derived = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=_PURPOSE).derive(
            secret_key.encode()
        )
        self._fernet = Fernet(base64.urlsafe_b64encode(derived))

    def seal(self, org_id: str, upstream: str, secret: str) -> bytes:
        """Return the ciphertext; it names what it is for, so that a row moved to another owner is no use."""
        return self._fernet.encrypt(f"{org_id}\x1f{upstream}\x1f{secret}".encode())

    def open(self, org_id: str, upstream: str, sealed: bytes) -> str | None:
        """Return the secret, or None: sealed under another key, or for somebody else."""
        try:
            owner, name, secret = self._fernet.decrypt(sealed).decode().split("\x1f", 2)
        except (InvalidToken, ValueError):
            return None
        return secret if (owner, name) == (org_id, upstream) else None


def keep_credential(engine: Engine, vault: Vault, org_id: str, upstream: str, secret: str) -> None:
    """Keep an organisation's key for an upstream in place of the one before.

    Raises `InvalidRequest` for what cannot be a key or a name, and `NotFound` for an unknown organisation.
    """
    if _NAME.fullmatch(upstream) is None:
        raise InvalidRequest("a provider's name is like anthropic or my-gateway")
    if not secret.isascii() or not secret.isprintable() or " " in secret or not 0 < len(secret) <= _MAX_KEY:
        raise InvalidRequest("a provider's key is printable text without spaces", code="invalid_provider_key")
    sealed, now = vault.seal(org_id, upstream, secret), utc_now()
    row = {"org_id": org_id, "upstream": upstream, "sealed": sealed, "changed_at": now}
    statement = insert_or(engine, provider_credentials).values(**row)
    changed = statement.on_conflict_do_update(
        index_elements=["org_id", "upstream"], set_={"sealed": sealed, "changed_at": now}
    )
    with writing(engine) as connection:
        try:
            connection.execute(changed)
        except IntegrityError as exc:
            raise NotFound("no such organization") from exc


def forget_credential(engine: Engine, org_id: str, upstream: str) -> None:
    """Forget an organisation's key for an upstream; raises `NotFound` when there is none."""
    mine = (provider_credentials.c.org_id == org_id, provider_credentials.c.upstream == upstream)
    with writing(engine) as connection:
        if connection.execute(sa.delete(provider_credentials).where(*mine)).rowcount == 0:
            raise NotFound("no key is kept for this provider")


def kept_keys(engine: Engine, org_id: str) -> list[KeptKey]:
    """Return for which upstreams an organisation keeps a key, in the order of their names."""
    table = provider_credentials.c
    mine = sa.select(table.upstream, table.changed_at).where(table.org_id == org_id).order_by(table.upstream)
    with reading(engine) as connection:
        return [KeptKey(name, changed_at) for name, changed_at in connection.execute(mine)]


class CredentialDirectory:
    """All providers' keys in memory, opened; looked for anew every `refresh_s` seconds.

    With the database away the known ones go on working: what a client may do is checked by its own key.
    """

    def __init__(self, engine: Engine, vault: Vault | None, refresh_s: float = 2.0) -> None:
        self._engine = engine
        self._vault = vault
        self._refresh_s = refresh_s
        self._sealed: dict[tuple[str, str], bytes] = {}
        self._secrets: dict[tuple[str, str], str] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read all once, then keep them fresh until `stop`. Raises `Unavailable`."""
        if self._vault is None:
            return
        await self.refresh()
        self._task = asyncio.create_task(self._keep_fresh(), name="provider-credentials")

    async def stop(self) -> None:
        """Stop refreshing, and forget everything."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self._sealed, self._secrets = {}, {}

    def secret_for(self, org_id: str, upstream: str) -> str | None:
        """Return the organisation's key for an upstream, without waiting for anything."""
        return self._secrets.get((org_id, upstream))

    async def refresh(self) -> None:
        """Read what is kept, and open what is new. Raises `Unavailable`."""
        vault = self._vault
        if vault is None:
            return
        kept = await asyncio.to_thread(_read, self._engine)
        secrets: dict[tuple[str, str], str] = {}
        for owner, sealed in kept.items():
            known = self._secrets.get(owner) if self._sealed.get(owner) == sealed else None
            secret = known or vault.open(*owner, sealed)
            if secret is not None:
                secrets[owner] = secret
            elif self._sealed.get(owner) != sealed:
                _log.warning("provider_key_cannot_be_opened", org_id=owner[0], upstream=owner[1])
        self._sealed, self._secrets = kept, secrets

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_s)
            try:
                await self.refresh()
            except Unavailable:
                _log.warning("provider_credentials_refresh_failed")


def _read(engine: Engine) -> dict[tuple[str, str], bytes]:
    table = provider_credentials.c
    with reading(engine) as connection:
        rows = connection.execute(sa.select(table.org_id, table.upstream, table.sealed)).all()
    return {(org_id, upstream): bytes(sealed) for org_id, upstream, sealed in rows}
