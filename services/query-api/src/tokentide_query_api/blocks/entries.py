"""Where the calls of accounts are read for their windows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from tokentide_common.limit_facts import LimitFact, latest_limits_sql, of_sortable
from tokentide_common.store import rows
from tokentide_query_api.asking import Asking
from tokentide_query_api.blocks.windows import Entry
from tokentide_query_api.scope import Scope
from tokentide_query_api.statement import Statement, over

_SUMS: Final = {
    "calls": "toInt64(x.sign)",
    "input_tokens": "x.sign * x.input_tokens",
    "cache_read_tokens": "x.sign * x.cache_read_tokens",
    "cache_write_tokens": "x.sign * (x.cache_write_5m_tokens + x.cache_write_1h_tokens)",
    "output_tokens": "x.sign * x.output_tokens",
    "cost_nano": "x.sign * x.cost_nano",
}
_WHO: Final = ("account_id", "user_id", "key_id", "machine_id", "model")
# A minute ends with its last moment: a call exactly five hours after a block's start belongs to that block.
_MINUTE: Final = "intDiv(at_ms + 59999, 60000)"
_MOST_FACTS: Final = 5000


class Account(msgspec.Struct):
    """The calls of one account, and the keys under which they were made."""

    entries: list[Entry] = []
    key_ids: set[str] = set()


async def calls_by_account(ask: Asking, scope: Scope) -> Mapping[str, Account]:
    """Return the calls of each account.

    An account is the provider's, where telemetry or the proxy told it. A user's calls of which nobody told
    belong to the one account that the user is known to have; else to the user, or to the key.
    """
    found = await _minutes(ask, scope)
    accounts: dict[str, set[str]] = defaultdict(set)
    for row in found:
        if row["account_id"] and row["user_id"]:
            accounts[row["user_id"]].add(row["account_id"])
    grouped: dict[str, Account] = defaultdict(Account)
    for row in found:
        own = accounts[row["user_id"]]
        (only,) = own if len(own) == 1 else [""]
        account = row["account_id"] or only or row["user_id"] or row["key_id"]
        grouped[account].entries.append(_entry(row))
        grouped[account].key_ids.add(row["key_id"])
    return grouped


async def _minutes(ask: Asking, scope: Scope) -> list[dict[str, Any]]:
    statement = Statement(scope)
    who = ", ".join(f"x.{name} AS {name}" for name in _WHO)
    sums = ", ".join(f"sum({what}) AS {name}" for name, what in _SUMS.items())
    # First by moment: what an upgrade took back must not set the time of what stands.
    moments = statement.ledger(f"{who}, toUnixTimestamp64Milli(x.occurred_at) AS at_ms, {sums}")
    live = f"{moments} GROUP BY {', '.join(_WHO)}, at_ms HAVING calls > 0"
    totals = ", ".join(f"sum(z.{name}) AS {name}" for name in _SUMS)
    return await ask.rows(
        statement,
        over(
            live,
            f"{', '.join(f'z.{n} AS {n}' for n in _WHO)}, min(z.at_ms) AS first_ms, max(z.at_ms) AS last_ms,"
            f" {totals}",
            f"AS z GROUP BY {', '.join(_WHO)}, {_MINUTE}",
        ),
    )


def _entry(row: Mapping[str, Any]) -> Entry:
    return Entry(
        first_ms=row["first_ms"],
        last_ms=row["last_ms"],
        machine_id=row["machine_id"],
        model=row["model"],
        **{name: row[name] for name in _SUMS},
    )


async def windows_told(ask: Asking) -> Mapping[str, Sequence[LimitFact]]:
    """Return what providers told of 5-hour and 7-day windows, by account, or by key where they named none."""
    found: dict[str, list[LimitFact]] = defaultdict(list)
    for row in await rows(ask.store, latest_limits_sql(), {"org_id": ask.org_id, "limit": _MOST_FACTS}):
        fact = of_sortable(row["fact"])
        if fact.kind in ("unified_5h", "unified_7d") and fact.resets_at is not None:
            found[fact.account_id or fact.key_id].append(fact)
    return found
