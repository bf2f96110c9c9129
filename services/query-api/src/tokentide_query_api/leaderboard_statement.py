"""The one statement that spans organisations: of people who asked to be shown to everybody. Pure.

It has no `Statement` behind it, since that belongs to one organisation. It reads the calls of those named,
each in the organisation that they are named with, and nothing else of these organisations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

_SQL: Final = """
SELECT x.org_id AS org_id, x.user_id AS user_id, lowerUTF8(x.user_email) AS email,
  sum(toInt64(x.sign)) AS calls, sum(x.sign * x.cost_nano) AS cost,
  sum(x.sign * (x.input_tokens + x.cache_read_tokens + x.cache_write_5m_tokens + x.cache_write_1h_tokens
    + x.output_tokens)) AS tokens
FROM ledger AS x
WHERE x.org_id IN {orgs:Array(String)}
  AND x.occurred_at >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND x.occurred_at < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND x.same_as = ''
  AND (concat(x.org_id, ' ', x.user_id) IN {ids:Array(String)}
    OR concat(x.org_id, ' ', lowerUTF8(x.user_email)) IN {emails:Array(String)})
GROUP BY org_id, user_id, email
HAVING calls > 0
"""


class Shown(msgspec.Struct, frozen=True):
    """Somebody who opted in, in one of their organisations."""

    org_id: str
    user_id: str
    email: str
    handle: str


def leaderboard_statement(
    shown: Sequence[Shown], start_ms: int, end_ms: int
) -> tuple[str, dict[str, object]]:
    """Return the SELECT of the sums of these people, per organisation and way of knowing them."""
    return _SQL, {
        "orgs": sorted({one.org_id for one in shown}),
        # An organisation's id has no blank, so that no two pairs are written alike.
        "ids": [f"{one.org_id} {one.user_id}" for one in shown if one.user_id],
        "emails": [f"{one.org_id} {one.email.lower()}" for one in shown if one.email],
        "start_ms": start_ms,
        "end_ms": end_ms,
    }
