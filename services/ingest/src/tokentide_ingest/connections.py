"""Makes the service's connections in the background: it starts whatever is away and recovers by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final

import structlog

from tokentide_common.accounts import KeyDirectory
from tokentide_common.broker import Publisher, ensure_topics
from tokentide_common.database import open_database
from tokentide_common.errors import Unavailable
from tokentide_common.last_seen import SeenMachine
from tokentide_common.verdicts import VerdictReader
from tokentide_ingest.settings import IngestSettings

_PATIENCE_S: Final = 3.0
_PAUSE_S: Final = 0.5
_MAX_PAUSE_S: Final = 5.0
_log = structlog.get_logger(__name__)


class Connections:
    """Broker, verdicts and keys: opened together, each tried again until it is there."""

    def __init__(
        self,
        settings: IngestSettings,
        publisher: Publisher,
        verdicts: VerdictReader,
        keys: KeyDirectory | None,
    ) -> None:
        self._settings = settings
        self._publisher = publisher
        self._verdicts = verdicts
        self._keys = keys
        self._keys_are_ours = keys is None

    def keys(self) -> KeyDirectory:
        """Return the directory of keys; raises `Unavailable` while it is not open yet."""
        if self._keys is None:
            raise Unavailable("keys cannot be checked yet", code="keys_unavailable")
        return self._keys

    def saw(self, machine: SeenMachine) -> None:
        """Note that a machine was heard of."""
        if self._keys is not None:
            self._keys.last_seen.machine(machine)

    def checks(self) -> Mapping[str, bool]:
        """Return what is there, for `/readyz`."""
        return {"broker": self._verdicts.listening, "keys": self._keys is not None}

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Connect in the background, disconnect at the end."""
        async with contextlib.AsyncExitStack() as stack:
            tasks = [asyncio.create_task(self._open_broker()), asyncio.create_task(self._open_keys(stack))]
            try:
                # Ready when it answers, in the usual case; with something away it starts all the same.
                await asyncio.wait(tasks, timeout=_PATIENCE_S)
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await self._verdicts.stop()
                await self._publisher.stop()

    async def _open_broker(self) -> None:
        await _until_available("topics", self._ensure_topics)
        await self._publisher.start()
        await _until_available("verdicts", self._verdicts.start)

    async def _ensure_topics(self) -> None:
        await ensure_topics(self._settings.broker_url, embedded=self._settings.embedded)

    async def _open_keys(self, stack: contextlib.AsyncExitStack) -> None:
        if not self._keys_are_ours:
            return

        async def connect() -> None:
            engine = await asyncio.to_thread(open_database, self._settings.database_url)
            keys = KeyDirectory(engine)
            try:
                await keys.start()
            except Unavailable:
                engine.dispose()
                raise
            stack.callback(engine.dispose)
            stack.push_async_callback(keys.stop)
            stack.callback(setattr, self, "_keys", None)
            self._keys = keys

        await _until_available("keys", connect)


async def _until_available(what: str, action: Callable[[], Awaitable[None]]) -> None:
    pause_s = _PAUSE_S
    while True:
        try:
            return await action()
        except Unavailable as error:
            _log.warning("not_available_yet", what=what, code=error.stable_code, retry_in_s=pause_s)
        except Exception:
            _log.exception("connecting_failed", what=what, retry_in_s=pause_s)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _MAX_PAUSE_S)
