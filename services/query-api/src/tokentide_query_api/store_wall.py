"""The second wall between organisations: the store itself hides the rows of all others.

Every statement names its organisation. Should one ever forget to, or name another, the store still adds
the caller's to whatever reads one of these tables, by a setting that travels with the question. In the same
way it hides what is too old to be whole: rows that are deleted for their age go in no order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Final

from tokentide_common.retention import TABLES, Kind
from tokentide_common.store import Readable, Setting

WALLED: Final = (
    *("activity", "activity_15m", "activity_session", "ledger", "limits", "message_calls", "rankings"),
    *("session_links", "usage_15m", "usage_15m_model", "usage_day", "usage_day_machine", "usage_day_project"),
    *("usage_day_minutes", "usage_day_model", "usage_day_person", "usage_day_price"),
    *("usage_month_digest", "usage_hour_digest", "usage_hour_person", "usage_minute_model"),
    *("usage_session", "usage_session_hour"),
    # These hold what was, and are not read.
    *("usage_day_digest", "usage_day_session", "usage_day_team", "usage_day_user", "usage_hour_session"),
    "usage_minute",
)
"""Every table that has organisations; a test holds it against the schema."""

# A question that runs longer than this is refused, so that one caller cannot take the store from the others.
LIMITS: Final[Mapping[str, Setting]] = {"max_execution_time": 20, "max_memory_usage": 4_000_000_000}
WholeFromMs = Callable[[Kind, str], int]
"""Returns from which moment on the rows of a kind and an organisation are all there; 0: all are."""
_ORG_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class WalledStore:
    """A store that has one organisation's rows, or those of a few."""

    def __init__(
        self, store: Readable, org_ids: Collection[str], whole_from_ms: WholeFromMs | None = None
    ) -> None:
        self._store = store
        self._conditions = {
            **wall(org_ids),
            **({} if whole_from_ms is None else whole(org_ids, whole_from_ms)),
        }

    async def read(
        self,
        sql: str,
        params: Mapping[str, object] | None = None,
        *,
        fmt: str = "JSONEachRow",
        settings: Mapping[str, Setting] | None = None,
    ) -> bytes:
        """Read like `Store.read`, behind the wall."""
        # A table whose name is not in the text cannot be read: to name all of them took a millisecond.
        reached = {table: condition for table, condition in self._conditions.items() if table in sql}
        walled = {"additional_table_filters": reached} if reached else {}
        return await self._store.read(sql, params, fmt=fmt, settings={**(settings or {}), **LIMITS, **walled})


def wall(org_ids: Collection[str]) -> Mapping[str, str]:
    """Return for each table the condition that every reading of it gets besides its own."""
    if not org_ids or not all(_ORG_ID.fullmatch(org_id) for org_id in org_ids):
        # These ids become SQL text: whatever could end the text of one gets no further than here.
        raise ValueError("an organisation's id has letters, digits, dots, dashes and underscores")
    named = ", ".join(f"'{org_id}'" for org_id in sorted(org_ids))
    return dict.fromkeys(WALLED, f"org_id IN ({named})" if len(org_ids) > 1 else f"org_id = {named}")


def whole(org_ids: Collection[str], whole_from_ms: WholeFromMs) -> Mapping[str, str]:
    """Return the same for tables whose old rows are deleted: of each organisation what is whole."""
    found = {}
    for kind, (table, column) in TABLES.items():
        since = {org_id: whole_from_ms(kind, org_id) // 1000 for org_id in sorted(org_ids)}
        if any(since.values()):
            each = [f"(org_id = '{o}' AND {column} >= toDateTime({s}, 'UTC'))" for o, s in since.items()]
            found[table] = " OR ".join(each)
    return found
