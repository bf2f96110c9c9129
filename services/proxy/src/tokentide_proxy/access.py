"""Opens what decides on access: the accounts database, its keys and the providers' keys kept there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from typing import Final

from tokentide_common.accounts_reader import AccountsReader
from tokentide_common.credential_directory import LiveCredentials
from tokentide_common.errors import RateLimited, Unavailable
from tokentide_common.every import Every
from tokentide_common.key_directory import LiveKeys
from tokentide_common.retry import until_it_works
from tokentide_common.stop_directory import LiveStops
from tokentide_common.vault import Vault
from tokentide_proxy.admission import Gate
from tokentide_proxy.budget_wall import over_budget
from tokentide_proxy.exchange import Admission, Headers, Upstream
from tokentide_proxy.settings import ProxySettings

_PATIENCE_S: Final = 3.0


class Access:
    """The gate, once the database has been reached. What is passed in stays the caller's to stop."""

    def __init__(self, settings: ProxySettings, *, keys: LiveKeys | None = None) -> None:
        self._settings = settings
        self._keys = keys
        self._gate: Gate | None = None
        self._stops: LiveStops | None = None

    @property
    def is_open(self) -> bool:
        """Whether keys can be checked."""
        return self._gate is not None

    async def admit(self, upstream: Upstream, target: bytes, headers: Headers, peer: str) -> Admission:
        """Let a request in, or not: see `Gate`. Raises `Unavailable` while there is no gate yet."""
        if self._gate is None:
            raise Unavailable("keys cannot be checked yet", code="keys_unavailable")
        return await self._gate.admit(upstream, target, headers, peer)

    def admit_at_once(
        self, upstream: Upstream, target: bytes, headers: Headers, peer: str
    ) -> Admission | None:
        """Let a request in that may pass without waiting: see `Gate`."""
        return None if self._gate is None else self._gate.admit_at_once(upstream, target, headers, peer)

    def still_admits(self, admission: Admission, upstream: Upstream) -> bool:
        """Return whether the same request would be admitted in the same way now."""
        return self._gate is not None and self._gate.still_admits(admission, upstream)

    def over_budget(self, admission: Admission, method: bytes) -> RateLimited | None:
        """Return why an admitted request is refused all the same: a budget is used up."""
        return over_budget(self._stops, admission, method)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Connect in the background, for as long as it takes; disconnect at the end."""
        async with contextlib.AsyncExitStack() as stack:
            task = asyncio.create_task(until_it_works("accounts", lambda: self._connect(stack)))
            try:
                # Ready when it answers, in the usual case; with the database away it starts all the same.
                await asyncio.wait({task}, timeout=_PATIENCE_S)
                yield
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                self._gate = None

    async def _connect(self, stack: contextlib.AsyncExitStack) -> None:
        settings = self._settings
        async with contextlib.AsyncExitStack() as opening:
            accounts = AccountsReader(settings.database_url)
            opening.callback(accounts.close)
            keys = self._keys or LiveKeys(accounts.select)
            if self._keys is None:
                await keys.start()
                opening.push_async_callback(keys.stop)
                noting = Every("key-use", partial(_note_use, keys, settings.database_url))
                noting.start()
                opening.push_async_callback(noting.stop)
            vault = Vault(settings.secret_key) if settings.secret_key else None
            credentials = LiveCredentials(accounts.select, vault)
            await credentials.start()
            opening.push_async_callback(credentials.stop)
            stops = LiveStops(accounts.select)
            await stops.start()
            opening.push_async_callback(stops.stop)
            await stack.enter_async_context(opening.pop_all())
        loopback_key = "" if settings.proxy_loopback_key == "none" else settings.proxy_loopback_key
        self._stops = stops
        self._gate = Gate(lambda: keys, credentials, loopback_key=loopback_key)


async def _note_use(keys: LiveKeys, database_url: str) -> None:
    used = keys.take_used()
    if used:
        latest = datetime.fromtimestamp(max(at for _, at in used.values()), UTC)
        # A connection of its own: should it wait for a lock, reading the keys does not wait with it.
        with contextlib.closing(AccountsReader(database_url)) as accounts:
            await asyncio.to_thread(accounts.note_use, list(used), latest)
