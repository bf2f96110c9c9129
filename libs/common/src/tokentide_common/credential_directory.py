"""All organisations' keys for their providers, opened once into memory; from where, the caller says."""

from __future__ import annotations

import asyncio

import structlog

from tokentide_common.every import Every
from tokentide_common.key_directory import Select
from tokentide_common.vault import Vault

_log = structlog.get_logger(__name__)


class LiveCredentials:
    """All providers' keys in memory, opened; looked for anew every `refresh_s` seconds.

    With the database away the known ones go on working: what a client may do is checked by its own key.
    """

    def __init__(self, select: Select, vault: Vault | None, refresh_s: float = 2.0) -> None:
        self._select = select
        self._vault = vault
        self._sealed: dict[tuple[str, str], bytes] = {}
        self._secrets: dict[tuple[str, str], str] = {}
        self._freshening = Every(
            "provider-credentials",
            self.refresh,
            seconds=refresh_s,
            at_end=False,
            failed="provider_credentials_refresh_failed",
        )

    async def start(self) -> None:
        """Read all once, then keep them fresh until `stop`. Raises `Unavailable`."""
        if self._vault is None:
            return
        await self.refresh()
        self._freshening.start()

    async def stop(self) -> None:
        """Stop refreshing, and forget everything."""
        await self._freshening.stop()
        self._sealed, self._secrets = {}, {}

    def secret_for(self, org_id: str, upstream: str) -> str | None:
        """Return the organisation's key for an upstream, without waiting for anything."""
        return self._secrets.get((org_id, upstream))

    async def refresh(self) -> None:
        """Read what is kept, and open what is new. Raises `Unavailable`."""
        vault = self._vault
        if vault is None:
            return
        kept = await asyncio.to_thread(_read, self._select)
        secrets: dict[tuple[str, str], str] = {}
        for owner, sealed in kept.items():
            known = self._secrets.get(owner) if self._sealed.get(owner) == sealed else None
            secret = known or vault.open(*owner, sealed)
            if secret is not None:
                secrets[owner] = secret
            elif self._sealed.get(owner) != sealed:
                _log.warning("provider_key_cannot_be_opened", org_id=owner[0], upstream=owner[1])
        self._sealed, self._secrets = kept, secrets


def _read(select: Select) -> dict[tuple[str, str], bytes]:
    rows = select("SELECT org_id, upstream, sealed FROM provider_credentials")
    return {(org_id, upstream): bytes(sealed) for org_id, upstream, sealed in rows}
