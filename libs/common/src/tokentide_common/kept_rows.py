"""What of each table is whole: read from the store, where it is written how long rows are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from tokentide_common.database import utc_now
from tokentide_common.errors import Unavailable
from tokentide_common.every import Every
from tokentide_common.retention import TABLES, Applied, Days, Kind, whole_from_ms
from tokentide_common.store import Store, rows

_REFRESH_S: Final = 10.0
_HISTORY: Final = "SELECT kind, applied_at, days FROM retention ORDER BY applied_at"
_ENGINE: Final = (
    "SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = {table:String}"
)


class KeptRows:
    """From when on an organisation's rows are there, without waiting; looked for anew in the background."""

    def __init__(self, store: Store, clock: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._clock = clock
        self._history: Mapping[Kind, list[Applied]] = {kind: [] for kind in TABLES}
        self._freshening = Every(
            "retention", self.refresh, seconds=_REFRESH_S, at_end=False, failed="retention_refresh_failed"
        )

    async def start(self) -> None:
        """Read it if it can be read, then keep it fresh until `stop`."""
        with suppress(Unavailable):
            await self.refresh()
        self._freshening.start()

    async def stop(self) -> None:
        """Stop refreshing."""
        await self._freshening.stop()

    async def refresh(self) -> None:
        """Read how long rows are kept, and were. Raises `Unavailable`."""
        self._history = await _history(self._store)

    def whole_from_ms(self, kind: Kind, org_id: str) -> int:
        """Return from which moment on no row of an organisation is missing, in milliseconds since 1970."""
        history = self._history[kind]
        return whole_from_ms(history, org_id, self._clock()) if history else 0

    def is_gone(self, org_id: str, occurred_ms: int, at_ms: int | None = None) -> bool:
        """Tell whether the row of a call may be deleted at a time, or now."""
        history = self._history["calls"]
        if not history:
            return False
        at = self._clock() if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC)
        return occurred_ms < whole_from_ms(history, org_id, at)


async def keep_rows(store: Store, wanted: Mapping[Kind, Iterable[str]], now: datetime) -> list[Kind]:
    """Let the store delete what is older than wanted, and return for which kinds that is news."""
    history = await _history(store)
    changed: list[Kind] = []
    for kind, (table, column) in TABLES.items():
        days, before = Days.read(wanted[kind]), history[kind]
        if days.text() != (before[-1].days if before else Days.read(())).text():
            # The guarantee: before the first row is deleted it is written down that it may be.
            # After the last one, whatever the clock of this machine says.
            at = max([now.astimezone(UTC), *(each.at + timedelta(milliseconds=1) for each in before)])
            row = {"applied_at": at, "kind": kind, "days": days.text()}
            await store.insert("retention", msgspec.json.encode(row))
            changed.append(kind)
        # Each time, since a crash may have come in between.
        (found,) = await rows(store, _ENGINE, {"table": table})
        ttl, engine = days.ttl(column), found["engine_full"]
        if ttl and f" TTL {ttl} " not in f"{engine} ":
            await store.command(f"ALTER TABLE {table} MODIFY TTL {ttl}")
        elif not ttl and " TTL " in engine:
            await store.command(f"ALTER TABLE {table} REMOVE TTL")
    return changed


async def _history(store: Store) -> Mapping[Kind, list[Applied]]:
    found: dict[Kind, list[Applied]] = {kind: [] for kind in TABLES}
    for row in await rows(store, _HISTORY):
        at = datetime.fromisoformat(row["applied_at"])
        found[row["kind"]].append(Applied(at, Days.read(row["days"].split(","))))
    return found
