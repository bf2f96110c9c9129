"""The second wall between organisations: the store itself hides the rows of all others.

Every statement names its organisation. Should one ever forget to, or name another, the store still adds
the caller's to whatever reads one of these tables, by a setting that travels with the question.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

from tokentide_common.store import Setting, Store

WALLED: Final = (
    *("activity", "activity_15m", "activity_session", "ledger", "limits", "message_calls", "rankings"),
    *("session_links", "usage_15m", "usage_day", "usage_day_machine", "usage_day_project", "usage_day_team"),
    *("usage_day_user", "usage_minute", "usage_session"),
)
"""Every table that has organisations; a test holds it against the schema."""

# A question that runs longer than this is refused, so that one caller cannot take the store from the others.
LIMITS: Final[Mapping[str, Setting]] = {"max_execution_time": 20, "max_memory_usage": 4_000_000_000}
_ORG_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class WalledStore:
    """A store that has one organisation's rows, or those of a few."""

    def __init__(self, store: Store, org_ids: Collection[str]) -> None:
        self._store = store
        self._settings = {**LIMITS, "additional_table_filters": wall(org_ids)}

    async def read(
        self,
        sql: str,
        params: Mapping[str, object] | None = None,
        *,
        fmt: str = "JSONEachRow",
        settings: Mapping[str, Setting] | None = None,
    ) -> bytes:
        """Read like `Store.read`, behind the wall."""
        return await self._store.read(sql, params, fmt=fmt, settings={**(settings or {}), **self._settings})


def wall(org_ids: Collection[str]) -> Mapping[str, str]:
    """Return for each table the condition that every reading of it gets besides its own."""
    if not org_ids or not all(_ORG_ID.fullmatch(org_id) for org_id in org_ids):
        # These ids become SQL text: whatever could end the text of one gets no further than here.
        raise ValueError("an organisation's id has letters, digits, dots, dashes and underscores")
    named = ", ".join(f"'{org_id}'" for org_id in sorted(org_ids))
    return dict.fromkeys(WALLED, f"org_id IN ({named})" if len(org_ids) > 1 else f"org_id = {named}")
